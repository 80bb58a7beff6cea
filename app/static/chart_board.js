// Several charts that share zoom, crosshair and smoothing; saving a chart as PNG or CSV.
(() => {
  "use strict";
  const make = (...a) => window.ttrl.chartMake(...a);
  const SMOOTH_KEY = "ttrl-studio.smooth";
  const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity", "font-family", "font-size", "font-weight", "stroke-linejoin"];

  class Board {
    constructor(place, trigger) {
      this.place = place;
      this.trigger = trigger;
      this.charts = new Map();
      this.zoom = null;
      this.bar = make("div", "tt-board-bar", place);
      this.bar.hidden = true; // until there are charts to share it
      this.smoothButton = make("button", "tt-toggle", this.bar, "Smooth");
      this.smoothButton.type = "button";
      this.smoothButton.title = "Draw a moving average over the raw values";
      this.resetButton = make("button", "tt-toggle", this.bar, "Reset zoom");
      this.resetButton.type = "button";
      this.hint = make("span", "tt-muted tt-small tt-hint", this.bar, "Drag to zoom, double-click to reset");
      this.grid = make("div", "tt-board-grid", place);
      try { this.smooth = localStorage.getItem(SMOOTH_KEY) === "1"; } catch { this.smooth = false; }
      this.smoothButton.addEventListener("click", () => {
        this.smooth = !this.smooth;
        try { localStorage.setItem(SMOOTH_KEY, this.smooth ? "1" : "0"); } catch { /* kept for this page only */ }
        this.redraw();
      });
      this.resetButton.addEventListener("click", () => this.setZoom(null));
      this.showButtons();
    }

    update(spec) {
      this.bar.hidden = !spec.tools || !spec.charts.length;
      this.smoothButton.hidden = !spec.charts.some((chart) => chart.smooth);
      this.place.classList.toggle("tt-board-one", spec.charts.length === 1);
      const wanted = new Set(spec.charts.map((chart) => chart.id));
      for (const [id, chart] of this.charts) if (!wanted.has(id)) { chart.node.remove(); this.charts.delete(id); }
      spec.charts.forEach((chartSpec, i) => {
        let chart = this.charts.get(chartSpec.id);
        if (!chart) {
          chart = new window.ttrl.Chart(this, chartSpec);
          this.charts.set(chartSpec.id, chart);
        } else {
          chart.update(chartSpec);
        }
        if (this.grid.children[i] !== chart.node) this.grid.insertBefore(chart.node, this.grid.children[i] || null);
      });
    }

    setZoom(range) { this.zoom = range; this.redraw(); }
    redraw() { this.showButtons(); for (const chart of this.charts.values()) chart.draw(); }
    showButtons() {
      this.smoothButton.setAttribute("aria-pressed", String(this.smooth));
      this.resetButton.hidden = this.zoom === null;
      this.hint.hidden = this.zoom !== null;
    }
    pointAt(x, source) { for (const chart of this.charts.values()) chart.showCursor(x, chart === source); }
  }

  // --- the tools of one chart --------------------------------------------------------------------------------
  function tool(chart, label, path, action) {
    const button = make("button", "tt-iconbtn", chart.tools);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.title = label;
    const ns = "http://www.w3.org/2000/svg";
    const picture = document.createElementNS(ns, "svg");
    for (const [k, v] of Object.entries({ width: 16, height: 16, viewBox: "0 0 20 20", fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" })) picture.setAttribute(k, v);
    const line = document.createElementNS(ns, "path");
    line.setAttribute("d", path);
    picture.append(line);
    button.append(picture);
    button.addEventListener("click", () => action(button));
  }
  function chartTools(chart, large = false) {
    tool(chart, "Save the values as CSV", "M4 4.5h12v11H4zM4 8.2h12M4 11.8h12M8.5 4.5v11", () => saveCsv(chart));
    tool(chart, "Save as PNG", "M10 3.5v8.5M6.5 8.8 10 12.3l3.5-3.5M4 16h12", () => savePng(chart));
    if (large) return;
    tool(chart, "Larger", "M12 4h4v4M8 16H4v-4M16 4l-5 5M4 16l5-5", (button) => {
      const large = chart.node.classList.toggle("tt-chart-large");
      button.setAttribute("aria-label", large ? "Smaller" : "Larger");
      button.title = large ? "Smaller" : "Larger";
      chart.draw();
    });
  }
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
  const fileName = (chart, ending) => `${(chart.spec.file || chart.spec.title).replace(/[^\w-]+/g, "-").toLowerCase()}.${ending}`;

  // A cell that starts like a formula would be run by a spreadsheet, hence the apostrophe.
  const cell = (v) => {
    if (v === null || v === undefined) return "";
    const text = typeof v === "number" ? String(v) : /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  function saveRows(chart, rows) {
    save(new Blob([rows.map((line) => line.map(cell).join(",")).join("\r\n")], { type: "text/csv" }), fileName(chart, "csv"));
  }
  function saveCsv(chart) {
    if (chart.rows) { saveRows(chart, chart.rows()); return; }
    const series = chart.spec.series;
    const xs = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    const head = [chart.spec.x_label.toLowerCase(), ...series.flatMap((s) => (s.band ? [s.name, `${s.name} low`, `${s.name} high`] : [s.name]))];
    const lines = xs.map((x) => [x, ...series.flatMap((s) => {
      const p = s.points.find((q) => q[0] === x) || [x, null, null, null];
      return s.band ? [p[1], p[2], p[3]] : [p[1]];
    })]);
    saveRows(chart, [head, ...lines]);
  }

  function savePng(chart) {
    const shown = chart.plot.querySelector("svg");
    const width = shown.clientWidth || chart.plot.clientWidth, height = shown.clientHeight || chart.plot.clientHeight;
    const copy = shown.cloneNode(true);
    const originals = shown.querySelectorAll("*");
    copy.querySelectorAll("*").forEach((node, i) => {
      const style = getComputedStyle(originals[i]);
      for (const name of STYLED) node.style.setProperty(name, style.getPropertyValue(name));
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const image = new Image();
    image.onload = () => {
      const legend = [...chart.spec.series, ...chart.spec.baselines].filter((s) => !chart.hidden.has(s.name));
      const rows = Math.ceil(legend.length / 3);
      const canvas = document.createElement("canvas");
      canvas.width = 2 * width;
      canvas.height = 2 * (height + 44 + 20 * rows);
      const pen = canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement);
      const token = (name) => style.getPropertyValue(name).trim();
      pen.scale(2, 2);
      pen.fillStyle = token("--tt-surface");
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = token("--tt-text");
      pen.font = `600 15px ${token("--tt-font")}`;
      pen.fillText(chart.spec.title, 12, 24);
      pen.drawImage(image, 0, 36, width, height);
      pen.font = `12px ${token("--tt-font")}`;
      legend.forEach((s, i) => {
        const x = 14 + (i % 3) * (width / 3), y = height + 50 + 20 * Math.floor(i / 3);
        pen.fillStyle = token(`--tt-c${s.color}`);
        pen.fillRect(x, y - 6, 14, 4);
        pen.fillStyle = token("--tt-text");
        pen.fillText(s.name, x + 20, y, width / 3 - 28);
      });
      canvas.toBlob((blob) => { if (blob) save(blob, fileName(chart, "png")); }, "image/png");
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  }

  /** A place for charts: `value` is the JSON string of app/charts.py. */
  function board(element, props, watch, trigger) {
    const place = element.querySelector(".tt-board") || element;
    const view = new Board(place, trigger);
    const draw = () => { if (props.value) view.update(JSON.parse(props.value)); };
    watch("value", draw);
    draw();
  }

  window.ttrl = Object.assign(window.ttrl, { board, chartTools });
})();
