// One chart: lines with bands, or stacked bars, drawn as SVG. All text goes in through textContent.
(() => {
  "use strict";
  const { isKnown, ticks, stepTicks, shown, tickLabel, smooth, autoDomain, runs } = window.ttrl.scale;
  const SVG = "http://www.w3.org/2000/svg";
  const DOT_SPACE = 14;

  function svg(name, attributes, parent) {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (parent) parent.append(node);
    return node;
  }
  function make(name, className, parent, text) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }
  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const colour = (series) => `var(--tt-c${series.color})`;

  class Chart {
    constructor(board, spec) {
      this.board = board;
      this.hidden = new Set();
      this.cursor = null;
      this.node = make("section", "tt-card tt-chart");
      const head = make("div", "tt-chart-head", this.node);
      this.title = make("h2", "", head);
      this.title.id = `tt-chart-${Math.random().toString(36).slice(2)}`;
      this.node.setAttribute("aria-labelledby", this.title.id);
      this.tools = make("div", "tt-chart-tools", head);
      this.plot = make("div", "tt-plot", this.node);
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "group");
      this.tip = make("div", "tt-tip", this.plot);
      this.tip.hidden = true;
      this.over = make("div", "tt-plot-over", this.plot);
      this.legend = make("div", "tt-legend", this.node);
      this.twin = make("p", "tt-twin", this.node);
      window.ttrl.chartTools(this);
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
      this.update(spec);
    }

    update(spec) {
      this.spec = spec;
      setText(this.title, spec.title);
      setText(this.twin, spec.text);
      this.plot.setAttribute("aria-label", `${spec.title}. ${spec.text} Arrow keys read the values step by step.`);
      this.node.classList.toggle("tt-chart-missing", Boolean(spec.missing));
      this.drawMissing();
      this.over.hidden = !spec.missing;
      this.drawLegend();
      this.draw();
    }

    drawMissing() {
      const { missing, missing_url: url } = this.spec;
      if (this.over.textContent === (missing || "") && Boolean(this.over.querySelector("a")) === Boolean(missing && url)) return;
      this.over.replaceChildren();
      if (missing && url) make("a", "", this.over, missing).href = url; else setText(this.over, missing || "");
    }

    visible() { return this.spec.series.filter((s) => !this.hidden.has(s.name)); }

    drawLegend() {
      const wanted = [...this.spec.series, ...this.spec.baselines];
      const names = wanted.map((s) => s.name).join("\n");
      this.legend.hidden = wanted.length < 2 && !this.spec.series.some((s) => s.band);
      if (this.legendNames !== names) {
        this.legendNames = names;
        this.legend.replaceChildren(...wanted.map((s) => {
          const button = make("button", "tt-key");
          button.type = "button";
          button.style.setProperty("--key", colour(s));
          const dashed = s.dash || s.y !== undefined;
          make("i", s.dotted ? "tt-key-dot" : dashed ? "tt-key-dash" : this.spec.kind === "stack" ? "tt-key-box" : "", button);
          make("span", "", button, s.name);
          button.addEventListener("click", () => {
            if (this.hidden.has(s.name)) this.hidden.delete(s.name); else this.hidden.add(s.name);
            this.drawLegend();
            this.draw();
          });
          return button;
        }));
      }
      wanted.forEach((s, i) => {
        const button = this.legend.children[i];
        button.setAttribute("aria-pressed", String(!this.hidden.has(s.name)));
        button.title = s.band ? `${s.name}; the shaded band is ${s.band}` : s.name;
      });
    }

    // --- scales ------------------------------------------------------------------------------------------------
    xDomain() {
      if (this.board.zoom) return this.board.zoom;
      let low = Infinity, high = -Infinity;
      for (const s of this.spec.series) for (const p of s.points) { if (p[0] < low) low = p[0]; if (p[0] > high) high = p[0]; }
      if (isKnown(this.spec.x_max) && this.spec.x_max > high) high = this.spec.x_max;
      if (!(low <= high)) return [0, 1];
      if (this.spec.kind === "stack") { const half = this.barStep() / 2; return [low - half, high + half]; }
      return low === high ? [Math.min(0, low - 1), high + 1] : [low, high];
    }
    barStep() {
      const xs = this.spec.series.length ? this.spec.series[0].points.map((p) => p[0]) : [];
      let step = Infinity;
      for (let i = 1; i < xs.length; i += 1) step = Math.min(step, xs[i] - xs[i - 1]);
      return Number.isFinite(step) && step > 0 ? step : 1;
    }
    yDomain([x0, x1]) {
      if (this.spec.y_range) return this.spec.y_range;
      const values = [];
      if (this.spec.kind === "stack") {
        const sums = new Map();
        for (const s of this.visible()) for (const [x, y] of s.points) if (x >= x0 && x <= x1 && isKnown(y)) sums.set(x, (sums.get(x) || 0) + y);
        return [0, 1.06 * Math.max(...sums.values(), 1e-9)];
      }
      for (const s of this.visible()) for (const p of s.points) if (p[0] >= x0 && p[0] <= x1) values.push(p[1], p[2], p[3]);
      for (const b of this.spec.baselines) if (!b.limit && !this.hidden.has(b.name)) values.push(b.y);
      return autoDomain(values, this.spec.unit);
    }

    // --- drawing -----------------------------------------------------------------------------------------------
    draw() {
      const width = this.plot.clientWidth;
      if (width < 40) return;
      const height = this.plot.clientHeight;
      const [x0, x1] = this.xDomain();
      const [y0, y1] = this.yDomain([x0, x1]);
      const yTicks = ticks(y0, y1, Math.max(2, Math.round(height / 52)));
      const labels = yTicks.map((v) => tickLabel(v, this.spec.unit, yTicks.length > 1 ? yTicks[1] - yTicks[0] : 1));
      const left = 12 + 6.6 * Math.max(2, ...labels.map((l) => l.length));
      const area = { left, right: width - 10, top: 8, bottom: height - 34 };
      const X = (x) => area.left + ((x - x0) / (x1 - x0)) * (area.right - area.left);
      const Y = (y) => area.bottom - ((y - y0) / (y1 - y0)) * (area.bottom - area.top);
      this.at = { X, Y, area, x0, x1 };
      const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "tt-svg", "aria-hidden": "true", focusable: "false" });
      this.drawAxes(picture, yTicks, labels);
      const clip = `${this.title.id}-clip`;
      svg("rect", { x: area.left - 4, y: area.top - 5, width: area.right - area.left + 8, height: area.bottom - area.top + 10 }, svg("clipPath", { id: clip }, picture));
      const inside = svg("g", { "clip-path": `url(#${clip})` }, picture);
      if (!this.spec.missing) {
        this.drawMarks(inside);
        if (this.spec.kind === "stack") this.drawBars(inside); else this.drawLines(inside);
      }
      this.cross = svg("g", { class: "tt-cross" }, picture);
      const old = this.plot.querySelector("svg");
      if (old) old.replaceWith(picture); else this.plot.prepend(picture);
      if (this.cursor !== null) this.showCursor(this.cursor, this.pointed);
    }

    drawAxes(picture, yTicks, labels) {
      const { X, Y, area, x0, x1 } = this.at;
      yTicks.forEach((v, i) => {
        svg("line", { x1: area.left, x2: area.right, y1: Y(v), y2: Y(v), class: "tt-grid-line" }, picture);
        svg("text", { x: area.left - 7, y: Y(v) + 4, class: "tt-axis-text", "text-anchor": "end" }, picture).textContent = labels[i];
      });
      svg("line", { x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom, class: "tt-axis-line" }, picture);
      const xTicks = stepTicks(x0, x1, Math.max(2, Math.floor((area.right - area.left) / 70)));
      for (const v of xTicks) {
        svg("text", { x: X(v), y: area.bottom + 15, class: "tt-axis-text", "text-anchor": "middle" }, picture).textContent = v.toLocaleString("en");
      }
      svg("text", { x: (area.left + area.right) / 2, y: area.bottom + 30, class: "tt-axis-title", "text-anchor": "middle" }, picture).textContent = this.spec.x_label;
    }

    drawMarks(inside) {
      const { X, area, x0, x1 } = this.at;
      for (const mark of this.spec.marks) {
        if (mark.x < x0 || mark.x > x1) continue;
        if (mark.kind === "checkpoint") { // there are many: a small sign at the axis
          svg("path", { d: `M${X(mark.x) - 3.5} ${area.bottom + 5}h7l-3.5 -6z`, class: "tt-mark-head tt-mark-checkpoint" }, inside);
          continue;
        }
        svg("line", { x1: X(mark.x), x2: X(mark.x), y1: area.top, y2: area.bottom, class: `tt-mark tt-mark-${mark.kind}` }, inside);
        svg("path", { d: `M${X(mark.x) - 4} ${area.top - 4}h8l-4 7z`, class: `tt-mark-head tt-mark-${mark.kind}` }, inside);
      }
    }

    drawLines(inside) {
      const { X, Y, area, x0, x1 } = this.at;
      for (const base of this.spec.baselines) {
        if (this.hidden.has(base.name)) continue;
        svg("line", { x1: area.left, x2: area.right, y1: Y(base.y), y2: Y(base.y), class: base.dotted ? "tt-baseline tt-baseline-dotted" : "tt-baseline", stroke: colour(base) }, inside);
      }
      for (const s of this.visible()) {
        const parts = runs(s.points);
        for (const part of parts) this.drawBand(inside, s, part);
        const smoothed = this.board.smooth && this.spec.smooth && s.points.length > 4;
        const span = Math.max(5, Math.min(40, s.points.length / 8));
        const line = (points, className) => {
          const d = runs(points).map((part) => `M${part.map((p) => `${X(p[0]).toFixed(1)} ${Y(p[1]).toFixed(1)}`).join("L")}`).join("");
          if (d) svg("path", { d, class: className + (s.dash ? " tt-line-dash" : ""), stroke: colour(s) }, inside);
        };
        line(s.points, smoothed ? "tt-line tt-line-raw" : "tt-line");
        if (smoothed) line(smooth(s.points, span), "tt-line");
        const inView = s.points.filter((p) => isKnown(p[1]) && p[0] >= x0 && p[0] <= x1);
        const spread = inView.length > 1 ? X(inView[inView.length - 1][0]) - X(inView[0][0]) : area.right;
        const few = !smoothed && spread / inView.length >= DOT_SPACE;
        for (const part of parts) {
          for (const p of part) if (few || part.length === 1) svg("circle", { cx: X(p[0]), cy: Y(p[1]), r: 2.6, class: "tt-dot", fill: colour(s) }, inside);
        }
      }
    }

    drawBand(inside, s, part) {
      const { X, Y } = this.at;
      const known = part.filter((p) => isKnown(p[2]) && isKnown(p[3]));
      if (!known.length) return;
      if (known.length === 1 || s.whiskers) {
        for (const p of known) svg("path", { d: `M${X(p[0])} ${Y(p[2])}V${Y(p[3])}M${X(p[0]) - 3} ${Y(p[2])}h6M${X(p[0]) - 3} ${Y(p[3])}h6`, class: "tt-whisker", stroke: colour(s) }, inside);
      }
      if (known.length === 1) return;
      const up = known.map((p) => `${X(p[0]).toFixed(1)} ${Y(p[3]).toFixed(1)}`);
      const down = known.map((p) => `${X(p[0]).toFixed(1)} ${Y(p[2]).toFixed(1)}`).reverse();
      svg("path", { d: `M${up.join("L")}L${down.join("L")}Z`, class: "tt-band", fill: colour(s) }, inside);
    }

    drawBars(inside) {
      const { X, Y } = this.at;
      const step = this.barStep();
      const wide = Math.max(1, Math.min(46, (X(step) - X(0)) * 0.82));
      const floor = new Map();
      for (const s of this.visible()) {
        let d = "";
        for (const [x, y] of s.points) {
          if (!isKnown(y) || y <= 0) continue;
          const from = floor.get(x) || 0;
          floor.set(x, from + y);
          d += `M${(X(x) - wide / 2).toFixed(1)} ${Y(from).toFixed(1)}h${wide.toFixed(1)}V${Y(from + y).toFixed(1)}h${(-wide).toFixed(1)}Z`;
        }
        if (d) svg("path", { d, class: "tt-seg", fill: colour(s) }, inside);
      }
      if (isKnown(this.spec.chosen)) {
        const { area } = this.at;
        svg("rect", { x: X(this.spec.chosen) - wide / 2 - 2, y: area.top, width: wide + 4, height: area.bottom - area.top, class: "tt-chosen" }, inside);
      }
    }

    // --- pointer and keys --------------------------------------------------------------------------------------
    allX() {
      const xs = new Set();
      for (const s of this.visible()) for (const p of s.points) if (p[0] >= this.at.x0 && p[0] <= this.at.x1) xs.add(p[0]);
      return [...xs].sort((a, b) => a - b);
    }
    nearestX(pixel) {
      const { area, x0, x1 } = this.at;
      const x = x0 + ((pixel - area.left) / (area.right - area.left)) * (x1 - x0);
      let best = null;
      for (const other of this.allX()) if (best === null || Math.abs(other - x) < Math.abs(best - x)) best = other;
      return best;
    }
    valueAt(s, x) { return s.points.find((p) => p[0] === x); }

    showCursor(x, pointed) {
      this.cursor = x;
      this.pointed = pointed;
      if (!this.at || this.spec.missing) return;
      this.cross.replaceChildren();
      const { X, Y, area, x0, x1 } = this.at;
      if (x === null || x < x0 || x > x1) { this.tip.hidden = true; return; }
      svg("line", { x1: X(x), x2: X(x), y1: area.top, y2: area.bottom, class: "tt-cross-line" }, this.cross);
      if (this.spec.kind !== "stack") {
        for (const s of this.visible()) {
          const p = this.valueAt(s, x);
          if (p && isKnown(p[1])) svg("circle", { cx: X(x), cy: Y(p[1]), r: 4, class: "tt-cross-dot", fill: colour(s) }, this.cross);
        }
      }
      if (pointed) this.fillTip(x); else this.tip.hidden = true;
    }

    fillTip(x) {
      this.tip.replaceChildren();
      make("b", "", this.tip, `${this.spec.x_label} ${x.toLocaleString("en")}`);
      for (const s of this.visible()) {
        const p = this.valueAt(s, x);
        if (!p || (this.spec.kind === "stack" && !p[1])) continue;
        const line = make("div", "", this.tip);
        const dot = make("i", "", line);
        dot.style.background = colour(s);
        make("span", "", line, s.name);
        let text = shown(p[1], this.spec.unit);
        if (isKnown(p[2]) && isKnown(p[3]) && p[2] !== p[3]) text += ` [${shown(p[2], this.spec.unit)} – ${shown(p[3], this.spec.unit)}]`;
        make("em", "", line, text);
      }
      for (const b of this.spec.baselines) {
        if (this.hidden.has(b.name)) continue;
        const line = make("div", "tt-tip-base", this.tip);
        make("i", "", line).style.background = colour(b);
        make("span", "", line, b.name);
        make("em", "", line, shown(b.y, this.spec.unit));
      }
      for (const m of this.spec.marks) if (m.x === x) make("div", "tt-tip-mark", this.tip, m.text);
      this.tip.hidden = false;
      const width = this.tip.offsetWidth, px = this.at.X(x), room = this.plot.clientWidth;
      this.tip.style.left = `${Math.max(4, px + 14 + width > room ? px - 14 - width : px + 14)}px`;
      this.tip.style.top = "6px";
    }

    listen() {
      let from = null;
      const offset = (event) => event.clientX - this.plot.getBoundingClientRect().left;
      this.plot.addEventListener("pointermove", (event) => {
        if (!this.at || this.spec.missing) return;
        const px = offset(event);
        if (from !== null && Math.abs(px - from) > 5) { this.board.pointAt(null, this); this.drawBrush(from, px); return; }
        this.board.pointAt(this.nearestX(px), this);
      });
      this.plot.addEventListener("pointerleave", () => { if (from === null) this.board.pointAt(null, this); });
      this.plot.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || event.pointerType === "touch" || this.spec.missing) return;
        from = offset(event);
        this.plot.setPointerCapture(event.pointerId);
      });
      const end = (event) => {
        if (from === null) return;
        const to = offset(event), start = from;
        from = null;
        if (event.type === "pointerup" && Math.abs(to - start) > 5) this.zoomTo(start, to);
        else if (event.type === "pointerup" && this.spec.pick) this.pick(to);
        this.cross.replaceChildren();
      };
      this.plot.addEventListener("pointerup", end);
      this.plot.addEventListener("pointercancel", end);
      this.plot.addEventListener("dblclick", () => this.board.setZoom(null));
      this.plot.addEventListener("blur", () => this.board.pointAt(null, this));
      this.plot.addEventListener("keydown", (event) => this.key(event));
    }
    pick(px) {
      const x = this.nearestX(px);
      if (x === null) return;
      if (this.spec.pick_url) history.replaceState(null, "", this.spec.pick_url + x);
      this.board.trigger("select", { value: `${this.spec.pick}:${x}`, checked: null });
    }
    key(event) {
      if (!this.at || this.spec.missing) return;
      const xs = this.allX();
      if (event.key === "Escape") { this.board.pointAt(null, this); return; }
      if (event.key === "0") { this.board.setZoom(null); return; }
      if (event.key === "Enter" && this.spec.pick && this.cursor !== null) { this.pick(this.at.X(this.cursor)); return; }
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || !xs.length) return;
      event.preventDefault();
      const here = this.cursor === null ? (by > 0 ? -1 : xs.length) : xs.indexOf(this.cursor);
      this.board.pointAt(xs[Math.max(0, Math.min(xs.length - 1, here + by))], this);
    }
    drawBrush(a, b) {
      const { area } = this.at;
      const x = Math.max(area.left, Math.min(a, b)), to = Math.min(area.right, Math.max(a, b));
      this.cross.replaceChildren();
      svg("rect", { x, y: area.top, width: Math.max(0, to - x), height: area.bottom - area.top, class: "tt-brush" }, this.cross);
    }
    zoomTo(a, b) {
      const { area, x0, x1 } = this.at;
      const value = (px) => x0 + ((Math.max(area.left, Math.min(area.right, px)) - area.left) / (area.right - area.left)) * (x1 - x0);
      const low = value(Math.min(a, b)), high = value(Math.max(a, b));
      if (high - low >= 1) this.board.setZoom([low, high]);
    }
  }

  window.ttrl = Object.assign(window.ttrl, { Chart, chartMake: make });
})();
