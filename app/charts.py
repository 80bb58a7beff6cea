"""Charts as data: what a chart shows, as one JSON string that static/chart.js draws.

The value travels as a string because Gradio's browser side would wrap a nested list point by point.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gradio as gr

from app.components import escape
from app.format import of_unit

Value: TypeAlias = float | int | None
Point: TypeAlias = Sequence[Value]
"""(x, y) or (x, y, low, high); y None is a gap: unknown, never 0."""

MarkKind: TypeAlias = Literal["alarm", "resume", "checkpoint", "event"]

NO_REFERENCES = "Unknown: this problem set has no reference answers."
NOTHING_YET = "Nothing measured yet."


@dataclass(frozen=True)
class Series:
    """One line, or one segment of stacked bars. `color` is 1 to 8; `band` says what low to high mean, in words."""

    name: str
    points: Sequence[Point]
    color: int = 1
    band: str = ""
    dash: bool = False
    whiskers: bool = False


@dataclass(frozen=True)
class Baseline:
    """A dashed or dotted horizontal line to compare with. A `limit` is seen once the curve comes near: it does not
    stretch the axis."""

    name: str
    y: float
    color: int = 8
    dotted: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened at one x."""

    x: int
    text: str
    kind: MarkKind = "event"


@dataclass(frozen=True)
class Chart:
    """One chart. `unit` is one of `ttrl_engine.metrics` or "points"; a share is drawn from 0 to 100 % unless `zoomed`.

    `missing` replaces the picture by the reason why there is none; with `missing_url` the reason is a link. `text`
    says in one sentence what the chart shows; left empty, it is made from the series. `pick` makes clicks fire
    `.select` with "PICK:x" and puts `pick_url` + x into the address bar.
    """

    id: str
    title: str
    series: Sequence[Series]
    unit: str = "1"
    x_label: str = "Step"
    baselines: Sequence[Baseline] = ()
    marks: Sequence[Mark] = ()
    missing: str = ""
    missing_url: str = ""
    text: str = ""
    kind: Literal["line", "stack"] = "line"
    smooth: bool = True
    zoomed: bool = False
    x_max: int | None = None
    pick: str = ""
    pick_url: str = ""
    chosen: int | None = None
    file: str = ""


def board(value: str = "", **options: Any) -> Any:
    """A place for one or several charts; its value is what `dump` gives. Zoom survives every new value."""
    return gr.HTML(
        value,
        html_template='<div class="tt-board"></div>',
        js_on_load="window.ttrl.board(element, props, watch, trigger)",
        apply_default_css=False,
        **options,
    )


def dump(charts: Iterable[Chart], *, tools: bool = True) -> str:
    """The charts as the JSON string that a board takes. `tools` shows the smoothing and zoom buttons."""
    text = json.dumps({"tools": tools, "charts": [_plain(chart) for chart in charts]}, separators=(",", ":"))
    # Drawn as text in any case; without a "<" no tool on the way can take a name for markup.
    return text.replace("<", "\\u003c")


def _plain(chart: Chart) -> dict[str, Any]:
    empty = not any(point[1] is not None for series in chart.series for point in series.points)
    missing = chart.missing or (NOTHING_YET if empty and not chart.baselines else "")
    return {
        "id": chart.id,
        "title": chart.title,
        "kind": chart.kind,
        "unit": chart.unit,
        "x_label": chart.x_label,
        "x_max": chart.x_max,
        "y_range": [0, 1] if chart.unit == "share" and not chart.zoomed else None,
        "series": [
            {
                "name": series.name,
                "points": [[_finite(value) for value in point] for point in series.points],
                "color": series.color,
                "band": series.band,
                "dash": series.dash,
                "whiskers": series.whiskers,
            }
            for series in chart.series
        ],
        "baselines": [
            {"name": line.name, "y": line.y, "color": line.color, "dotted": line.dotted, "limit": line.limit}
            for line in chart.baselines
        ],
        "marks": [{"x": mark.x, "text": mark.text, "kind": mark.kind} for mark in chart.marks],
        "missing": missing,
        "missing_url": chart.missing_url,
        "text": chart.text or sentence(chart, missing),
        "smooth": chart.smooth,
        "pick": chart.pick,
        "pick_url": chart.pick_url,
        "chosen": chart.chosen,
        "file": chart.file,
    }


def _finite(value: Value) -> Value:
    """JSON has no NaN; five digits are finer than any pixel."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")


def sentence(chart: Chart, missing: str = "") -> str:
    """The chart in words, for those who cannot see it: where each line began, where it is, and its extremes."""
    if missing:
        return missing
    parts = []
    for series in chart.series[:3]:
        seen = [(int(p[0] or 0), p[1]) for p in series.points if p[1] is not None and math.isfinite(p[1])]
        if not seen:
            parts.append(f"{series.name}: nothing measured yet")
            continue
        (first_x, first), (last_x, last) = seen[0], seen[-1]
        shown = shown_value(first, chart.unit)
        if len(seen) == 1:
            parts.append(f"{series.name}: {shown} at {chart.x_label.lower()} {first_x}")
            continue
        now = shown_value(last, chart.unit)
        parts.append(f"{series.name}: from {shown} at {chart.x_label.lower()} {first_x} to {now} at {last_x}")
    parts += [f"{line.name}: {shown_value(line.y, chart.unit)}" for line in chart.baselines[:2]]
    return "; ".join(parts) + "." if parts else NOTHING_YET


def shown_value(value: float | None, unit: str) -> str:
    """A value with its unit in words short enough for a sentence."""
    text = of_unit(value, unit)
    return f"{text} {unit}" if unit in ("nats", "tokens") else text


def sparkline(
    values: Sequence[Value], title: str, *, width: int = 120, height: int = 32, fixed: tuple[float, float] | None = None
) -> str:
    """A line without axes as an SVG string; the title says what it shows and is read aloud."""
    known = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return f'<span class="tt-muted tt-small">{escape("no curve yet")}</span>'
    low, high = fixed or (min(v for _, v in known), max(v for _, v in known))
    span = (high - low) or 1.0
    last = max(len(values) - 1, 1)
    spots = [f"{2 + i / last * (width - 4):.1f} {height - 3 - (v - low) / span * (height - 6):.1f}" for i, v in known]
    line = "M" + "L".join(spots)
    area = f"{line}L{spots[-1].split()[0]} {height}L{spots[0].split()[0]} {height}Z"
    return (
        f'<svg class="tt-spark" role="img" aria-label="{escape(title)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f'<path class="tt-spark-area" d="{area}"/><path d="{line}"/></svg>'
    )


def trend_words(first: float | None, last: float | None, unit: str) -> str:
    """First and last value of a series: "41.2 % to 88.0 %"."""
    if first is None or last is None:
        return "unknown"
    return f"{of_unit(first, unit)} to {of_unit(last, unit)}"
