// The triage map: one mark per problem, consensus now against its change since the first vote. Marks are chosen with
// a lasso, a click, the keyboard or the boxes of the table below, which holds the same problems. The choice lives
// here: no refresh takes it back.
(() => {
  "use strict";
  const { ticks, tickLabel, shown } = window.ttrl.scale;
  const make = (...a) => window.ttrl.chartMake(...a);
  const SVG = "http://www.w3.org/2000/svg";
  const PAGE = 50, NEAR = 16;
  const KINDS = [
    { name: "Label is wrong", color: 5, word: "wrong" },
    { name: "Label is right", color: 3, word: "right" },
    { name: "Label: unknown", color: 1, word: "unknown" },
  ];
  const ORDERS = {
    set: ["Order of the set", (a, b) => a.idx - b.idx],
    low: ["Least agreement first", (a, b) => a.x - b.x],
    fell: ["Agreement fell most", (a, b) => a.y - b.y],
    flips: ["Most changes of label first", (a, b) => b.flips - a.flips],
    wrong: ["Wrong labels first", (a, b) => a.kind - b.kind || a.x - b.x],
  };

  function svg(name, attributes, parent) {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (parent) parent.append(node);
    return node;
  }
  const radius = (p) => 3.6 + 0.8 * Math.min(p.flips, 6);
  function outline(p, x, y, r) {
    if (p.kind === 0) return `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`;
    return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  }
  function inside(path, x, y) {
    let found = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i, i += 1) {
      const [ax, ay] = path[i], [bx, by] = path[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) found = !found;
    }
    return found;
  }
  /** Sorted whole numbers as ranges: "0-4,7". */
  function ranges(numbers) {
    const found = [];
    for (const n of [...numbers].sort((a, b) => a - b)) {
      const last = found[found.length - 1];
      if (last && n === last[1] + 1) last[1] = n; else found.push([n, n]);
    }
    return found.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(",");
  }

  class Triage {
    constructor(place, trigger) {
      this.trigger = trigger;
      this.points = [];
      this.chosen = new Set();
      this.hidden = new Set();
      this.at = null;
      this.cursor = null;
      this.page = 0;
      this.order = "set";
      this.spec = { title: "Triage map", series: [], baselines: [], file: "triage" };
      this.node = make("section", "tt-card tt-chart tt-chart-large triage", place);
      this.node.hidden = true;
      const head = make("div", "tt-chart-head", this.node);
      this.title = make("h2", "", head);
      this.title.id = "triage-title";
      this.node.setAttribute("aria-labelledby", this.title.id);
      this.tools = make("div", "tt-chart-tools", head);
      this.plot = make("div", "tt-plot", this.node);
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "group");
      this.tip = make("div", "tt-tip", this.plot);
      this.tip.hidden = true;
      this.spoken = make("div", "tt-sr", this.node);
      this.spoken.setAttribute("role", "status");
      this.legend = make("div", "tt-legend triage-legend", this.node);
      this.twin = make("p", "tt-twin", this.node);
      this.hint = make("p", "tt-twin", this.node, "Draw around marks to choose them (with Shift: to add), click one to add it or take it back, double-click to open it. Keys: arrows, Space, Enter, Escape. The larger a mark, the more often its label changed.");
      this.bar = make("div", "triage-bar", this.node);
      this.drawBar();
      this.table();
      window.ttrl.chartTools(this, true);
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
    }

    update(data) {
      this.node.hidden = !data.points.length;
      this.points = data.points.map(([idx, id, text, x, y, flips, kind, label]) => ({ idx, id, text, x, y, flips, kind, label }));
      this.canHold = data.can_hold;
      this.url = data.url;
      this.spec.title = data.title;
      this.spec.file = data.file;
      this.spec.series = KINDS.filter((_, kind) => this.points.some((p) => p.kind === kind));
      const known = new Set(this.points.map((p) => p.idx));
      for (const idx of [...this.chosen]) if (!known.has(idx)) this.chosen.delete(idx);
      this.title.textContent = data.title;
      this.twin.textContent = data.text;
      this.plot.setAttribute("aria-label", `${data.title}. ${data.text} Arrow keys go from problem to problem, Space chooses one, Enter opens it.`);
      this.legend.replaceChildren(...this.spec.series.map((kind) => {
        const key = make("span", "triage-key");
        const picture = svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, key);
        svg("path", { d: outline({ kind: KINDS.indexOf(kind) }, 7, 7, 4.4), class: `triage-mark triage-${kind.word}` }, picture);
        make("span", "", key, kind.name);
        return key;
      }));
      this.show();
    }

    show() { this.showBar(); this.draw(); this.fillTable(); }

    // --- the picture -------------------------------------------------------------------------------------------
    draw() {
      const width = this.plot.clientWidth, height = this.plot.clientHeight;
      if (width < 40 || this.node.hidden) return;
      const lowest = 1.06 * Math.min(-0.1, ...this.points.map((p) => p.y)), highest = 1.06 * Math.max(0.1, ...this.points.map((p) => p.y));
      const area = { left: 52, right: width - 14, top: 12, bottom: height - 34 };
      const X = (x) => area.left + 10 + x * (area.right - area.left - 20);
      const Y = (y) => area.bottom - 8 - ((y - lowest) / (highest - lowest)) * (area.bottom - area.top - 16);
      const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "tt-svg", "aria-hidden": "true", focusable: "false" });
      const yTicks = ticks(lowest, highest, 6);
      for (const v of yTicks) {
        svg("line", { x1: area.left, x2: area.right, y1: Y(v), y2: Y(v), class: v === 0 ? "tt-axis-line" : "tt-grid-line" }, picture);
        svg("text", { x: area.left - 7, y: Y(v) + 4, class: "tt-axis-text", "text-anchor": "end" }, picture).textContent = (v > 0 ? "+" : "") + tickLabel(v, "points", 1);
      }
      for (const v of ticks(0, 1, width < 500 ? 4 : 8)) {
        svg("text", { x: X(v), y: area.bottom + 15, class: "tt-axis-text", "text-anchor": "middle" }, picture).textContent = tickLabel(v, "share", 1);
      }
      svg("text", { x: (area.left + area.right) / 2, y: area.bottom + 30, class: "tt-axis-title", "text-anchor": "middle" }, picture).textContent = "Consensus now";
      const side = svg("text", { x: 0, y: 0, class: "tt-axis-title", "text-anchor": "middle", transform: `translate(11 ${(area.top + area.bottom) / 2}) rotate(-90)` }, picture);
      side.textContent = "Since the first vote, points";
      this.at = new Map(this.points.map((p) => [p.idx, [X(p.x), Y(p.y)]]));
      for (const p of this.points) {
        const [x, y] = this.at.get(p.idx), r = radius(p);
        if (this.chosen.has(p.idx)) svg("circle", { cx: x, cy: y, r: r + 3.5, class: "triage-chosen" }, picture);
        svg("path", { d: outline(p, x, y, r), class: `triage-mark triage-${KINDS[p.kind].word}` }, picture);
      }
      this.over = svg("g", {}, picture);
      const old = this.plot.querySelector("svg");
      if (old) old.replaceWith(picture); else this.plot.prepend(picture);
      if (this.cursor !== null) this.showCursor(this.cursor);
    }

    showCursor(idx) {
      const p = this.points.find((each) => each.idx === idx);
      this.cursor = p ? idx : null;
      this.over.replaceChildren();
      this.tip.hidden = !p;
      if (!p) return;
      const [x, y] = this.at.get(idx);
      svg("circle", { cx: x, cy: y, r: radius(p) + 6, class: "triage-cursor" }, this.over);
      this.tip.replaceChildren();
      make("b", "", this.tip, p.text);
      const values = [["Consensus", shown(p.x, "share")], ["Since the first vote", shown(p.y, "points")], ["Changes of label", String(p.flips)], ["Label", p.label], ["Label is", KINDS[p.kind].word], ["Chosen", this.chosen.has(idx) ? "yes" : "no"]];
      for (const [name, value] of values) {
        const line = make("div", "", this.tip);
        make("span", "", line, name);
        make("em", "", line, value);
      }
      const wide = this.tip.offsetWidth, room = this.plot.clientWidth;
      this.tip.style.left = `${Math.max(4, x + 16 + wide > room ? x - 16 - wide : x + 16)}px`;
      this.tip.style.top = `${y > this.plot.clientHeight / 2 ? 6 : Math.max(6, this.plot.clientHeight - this.tip.offsetHeight - 6)}px`;
    }

    nearest(x, y) {
      let best = null, least = NEAR;
      for (const [idx, [px, py]] of this.at) {
        const far = Math.hypot(px - x, py - y);
        if (far < least) { best = idx; least = far; }
      }
      return best;
    }

    // --- choosing ----------------------------------------------------------------------------------------------
    toggle(idx) { if (!this.chosen.delete(idx)) this.chosen.add(idx); this.show(); }
    open(idx) {
      const { id } = this.points.find((p) => p.idx === idx);
      history.replaceState(null, "", this.url + encodeURIComponent(id));
      this.trigger("select", { value: `problem:${id}`, checked: null });
      const goal = document.getElementById("run-tabs");
      if (goal) goal.scrollIntoView({ block: "start" });
    }

    listen() {
      let path = null;
      const spot = (event) => { const box = this.plot.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      const moved = () => path.length > 1 && path.some(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1]) > 6);
      this.plot.addEventListener("pointerdown", (event) => { if (event.button === 0 && this.at) { path = [spot(event)]; if (event.pointerType !== "touch") this.plot.setPointerCapture(event.pointerId); } });
      this.plot.addEventListener("pointermove", (event) => {
        if (!this.at) return;
        if (!path) { this.showCursor(this.nearest(...spot(event))); return; }
        path.push(spot(event));
        if (event.pointerType === "touch" || !moved()) return;
        this.showCursor(null);
        svg("path", { d: `M${path.map((p) => p.join(" ")).join("L")}Z`, class: "triage-lasso" }, this.over);
      });
      this.plot.addEventListener("pointerup", (event) => {
        if (!path) return;
        const drawn = path, lasso = moved();
        path = null;
        if (!lasso) { const idx = this.nearest(...drawn[0]); if (idx !== null) this.toggle(idx); return; }
        if (event.pointerType === "touch") return;
        if (!event.shiftKey) this.chosen.clear();
        for (const [idx, [x, y]] of this.at) if (inside(drawn, x, y)) this.chosen.add(idx);
        this.show();
      });
      this.plot.addEventListener("pointercancel", () => { path = null; this.draw(); });
      this.plot.addEventListener("pointerleave", () => { if (!path && this.over) this.showCursor(null); });
      this.plot.addEventListener("blur", () => { if (this.over) this.showCursor(null); });
      this.plot.addEventListener("dblclick", (event) => { const idx = this.nearest(...spot(event)); if (idx !== null) this.open(idx); });
      this.plot.addEventListener("keydown", (event) => this.key(event));
    }
    key(event) {
      if (!this.at || !this.points.length) return;
      if (event.key === "Escape") { this.chosen.clear(); this.show(); this.say("Nothing is chosen."); return; }
      if (event.key === " ") { event.preventDefault(); if (this.cursor !== null) { this.toggle(this.cursor); this.sayCursor(); } return; }
      if (event.key === "Enter") { if (this.cursor !== null) this.open(this.cursor); return; }
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const across = event.key === "ArrowLeft" || event.key === "ArrowRight";
      const ordered = [...this.points].sort((a, b) => (across ? a.x - b.x || a.y - b.y : a.y - b.y || a.x - b.x) || a.idx - b.idx);
      const here = ordered.findIndex((p) => p.idx === this.cursor);
      const next = here < 0 ? (by > 0 ? 0 : ordered.length - 1) : Math.max(0, Math.min(ordered.length - 1, here + by));
      this.showCursor(ordered[next].idx);
      this.sayCursor();
    }
    say(text) { this.spoken.textContent = text; }
    sayCursor() {
      const p = this.points.find((each) => each.idx === this.cursor);
      this.say(`${p.text}. Consensus ${shown(p.x, "share")}, ${shown(p.y, "points")} since the first vote, ${p.flips} changes, label ${KINDS[p.kind].word}${this.chosen.has(p.idx) ? ", chosen" : ""}.`);
    }

    // --- what can be done with a choice -----------------------------------------------------------------------
    drawBar() {
      this.count = make("b", "", this.bar);
      this.count.setAttribute("aria-live", "polite");
      const button = (text, title, act) => {
        const made = make("button", "tt-btn tt-btn-small", this.bar, text);
        made.type = "button";
        made.title = title;
        made.addEventListener("click", act);
        return made;
      };
      const ask = (what) => () => this.trigger("select", { value: `${what}:${ranges(this.chosen)}`, checked: null });
      this.buttons = [
        button("Hold out", "A new run on the rest, scored on these: they are never trained on", ask("hold")),
        button("Leave out", "A new run without these", ask("drop")),
        button("Only these", "A new run on these alone", ask("only")),
        button("Clear", "Choose nothing", () => { this.chosen.clear(); this.show(); this.plot.focus(); }),
      ];
    }
    showBar() {
      const n = this.chosen.size;
      this.count.textContent = n ? `${n.toLocaleString("en")} of ${this.points.length.toLocaleString("en")} chosen` : "None chosen";
      for (const made of this.buttons) made.disabled = n === 0;
      if (!this.canHold) { this.buttons[0].disabled = true; this.buttons[0].title = "Held-out problems are there to be scored, and this set has no reference answers"; }
    }

    // --- the same as a table ----------------------------------------------------------------------------------
    table() {
      this.fold = make("details", "triage-table", this.node);
      make("summary", "", this.fold, "The map as a table");
      const bar = make("div", "triage-bar", this.fold);
      const label = make("label", "tt-select", bar);
      make("span", "tt-sr", label, "Order of the table");
      const select = make("select", "", label);
      for (const key in ORDERS) make("option", "", select, ORDERS[key][0]).value = key;
      select.addEventListener("change", () => { this.order = select.value; this.page = 0; this.fillTable(); });
      const turn = (text, by) => {
        const made = make("button", "tt-btn tt-btn-small", bar, text);
        made.type = "button";
        made.addEventListener("click", () => { this.page += by; this.fillTable(); });
        return made;
      };
      this.back = turn("Back", -1);
      this.where = make("span", "tt-muted", bar);
      this.next = turn("Next", 1);
      const wrap = make("div", "tt-table-wrap", this.fold);
      wrap.tabIndex = 0;
      wrap.setAttribute("role", "region");
      wrap.setAttribute("aria-label", "The problems of the map");
      const table = make("table", "", wrap);
      const head = make("tr", "", make("thead", "", table));
      for (const name of ["Chosen", "Problem", "Consensus", "Since the first vote", "Changes", "Label", "Label is"]) make("th", "", head, name).scope = "col";
      this.body = make("tbody", "", table);
      this.fold.addEventListener("toggle", () => this.fillTable());
    }
    fillTable() {
      if (!this.fold.open) return;
      const last = Math.max(0, Math.ceil(this.points.length / PAGE) - 1);
      this.page = Math.max(0, Math.min(last, this.page));
      this.where.textContent = `Page ${this.page + 1} of ${last + 1}`;
      this.back.disabled = this.page === 0;
      this.next.disabled = this.page === last;
      const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.at : null;
      const rows = [...this.points].sort(ORDERS[this.order][1]).slice(this.page * PAGE, (this.page + 1) * PAGE);
      this.body.replaceChildren(...rows.map((p) => {
        const row = make("tr", this.chosen.has(p.idx) ? "tt-selected" : "");
        const box = make("input", "", make("td", "", row));
        box.type = "checkbox";
        box.checked = this.chosen.has(p.idx);
        box.dataset.at = `box ${p.idx}`;
        box.setAttribute("aria-label", `Choose ${p.text}`);
        box.addEventListener("change", () => this.toggle(p.idx));
        const open = make("button", "tt-linklike", make("td", "tt-wrap", row), p.text);
        open.type = "button";
        open.dataset.at = `open ${p.idx}`;
        open.addEventListener("click", () => this.open(p.idx));
        for (const text of [shown(p.x, "share"), shown(p.y, "points"), String(p.flips), p.label, KINDS[p.kind].word]) make("td", "", row, text);
        return row;
      }));
      if (focused) { const again = this.body.querySelector(`[data-at="${focused}"]`); if (again) again.focus({ preventScroll: true }); }
    }
    /** The values, for the CSV. */
    rows() {
      const head = ["problem_id", "consensus_now", "change_since_first_vote", "label_changes", "label", "label_is", "chosen"];
      return [head, ...this.points.map((p) => [p.id, p.x, p.y, p.flips, p.label, KINDS[p.kind].word, this.chosen.has(p.idx) ? 1 : 0])];
    }
  }

  /** A place for the map: `value` is the JSON string of app/pages/run_triage.py. */
  function triage(element, props, watch, trigger) {
    const view = new Triage(element.querySelector(".tt-triage") || element, trigger);
    const draw = () => { if (props.value) view.update(JSON.parse(props.value)); };
    watch("value", draw);
    draw();
  }

  window.ttrl = Object.assign(window.ttrl, { triage });
})();
