// Numbers of a chart: ticks, formats, smoothing. No DOM here.
(() => {
  "use strict";
  const NARROW = "\u202f";

  const isKnown = (v) => typeof v === "number" && Number.isFinite(v);

  /** Round tick values that cover [low, high], about `wanted` of them. */
  function ticks(low, high, wanted) {
    const span = high - low;
    if (!(span > 0)) return [low];
    const rough = span / Math.max(1, wanted);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    const found = [];
    for (let i = first; i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
    return found;
  }

  /** Ticks of whole steps only: 0, 5, 10 … */
  function stepTicks(low, high, wanted) {
    return ticks(low, high, Math.min(wanted, Math.max(1, Math.floor(high - low)))).filter(Number.isInteger);
  }

  function plain(v, digits) {
    const a = Math.abs(v);
    if (a !== 0 && (a < 1e-3 || a >= 1e7)) return v.toExponential(2).replace("-", "\u2212");
    return v.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "\u2212");
  }

  /** A value with its unit, as in app/format.py. */
  function shown(v, unit) {
    if (!isKnown(v)) return "unknown";
    if (unit === "share") return `${(100 * v).toFixed(1).replace("-", "\u2212")}${NARROW}%`;
    if (unit === "points") return `${v > 0 ? "+" : ""}${(100 * v).toFixed(1).replace("-", "\u2212")}${NARROW}pts`;
    const digits = Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 3;
    if (unit === "s") return `${plain(v, digits)}${NARROW}s`;
    if (unit === "nats" || unit === "tokens") return `${plain(v, digits)} ${unit}`;
    return plain(v, digits);
  }

  /** The same, short, for an axis. */
  function tickLabel(v, unit, step) {
    if (unit === "share" || unit === "points") return `${plain(100 * v, 100 * step < 1 ? 2 : 1)}${unit === "share" ? NARROW + "%" : ""}`;
    let digits = 0;
    while (digits < 7 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits += 1;
    return plain(v, digits);
  }

  /** Exponential moving average without the pull towards the start; gaps stay gaps. */
  function smooth(points, span) {
    const keep = 1 - 2 / (span + 1);
    let sum = 0, weight = 0;
    return points.map(([x, y]) => {
      if (!isKnown(y)) return [x, null];
      sum = keep * sum + y;
      weight = keep * weight + 1;
      return [x, sum / weight];
    });
  }

  /** [low, high] of the values seen, widened a little; from 0 where the values come near it. */
  function autoDomain(values, unit) {
    const found = values.filter(isKnown);
    if (!found.length) return [0, 1];
    let low = Math.min(...found), high = Math.max(...found);
    if (low >= 0 && low < 0.45 * high) low = 0;
    // Counts move in whole numbers: less than one of them fills no axis.
    if (unit === "count" && high - low < 1 && low > 0) return [Math.max(0, Math.floor(low - 0.5)), Math.ceil(high + 0.5)];
    if (low === high) { const pad = Math.abs(low) * 0.1 || 1; return low === 0 ? [0, 1] : [low - pad, high + pad]; }
    const pad = 0.06 * (high - low);
    return [low === 0 ? 0 : low - pad, high + pad];
  }

  /** Stretches of points without a gap. */
  function runs(points) {
    const found = [];
    let part = [];
    for (const p of points) {
      if (isKnown(p[1])) part.push(p);
      else if (part.length) { found.push(part); part = []; }
    }
    if (part.length) found.push(part);
    return found;
  }

  window.ttrl = Object.assign(window.ttrl || {}, { scale: { isKnown, ticks, stepTicks, shown, tickLabel, smooth, autoDomain, runs } });
})();
