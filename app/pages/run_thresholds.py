"""Where the alarms of a run lie on its charts. Thresholds that compare with the start of the run are known once its
first steps are drawn; beyond 400 steps a point is the mean of neighbouring steps, and so is such a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from app.charts import Baseline, Chart
from ttrl_engine.config import SafeguardConfig
from ttrl_engine.safeguards import MIN_SHIFT, MIN_SHIFTS, SHIFT_WINDOW, START_STEPS
from worker.rows import SeriesPoint

All = Mapping[str, Sequence[SeriesPoint]]

_COLOR = 5


def with_thresholds(charts: Sequence[Chart], config: SafeguardConfig, data: All) -> list[Chart]:
    """The charts, those of watched metrics with a line where their alarm fires."""
    lines: dict[str, list[Baseline]] = {}
    for chart, name, y in _thresholds(config, data):
        lines.setdefault(chart, []).append(Baseline(name, y, _COLOR, dotted=True, limit=True))
    return [dataclasses.replace(each, baselines=(*each.baselines, *lines.get(each.id, ()))) for each in charts]


def _thresholds(config: SafeguardConfig, data: All) -> Iterator[tuple[str, str, float]]:
    """(chart, name, value) of every threshold that is switched on and known by now."""
    starts = {name: start for name in data if (start := _start(data[name])) is not None}
    rises = (
        ("consensus", "consensus", config.false_consensus, "Alarm possible above (false consensus)"),
        ("votes-lost", "truncated_share", config.truncated_rise, "Alarm above, cut off"),
        ("votes-lost", "unparsed_share", config.unparsed_rise, "Alarm above, unreadable"),
    )
    for chart, metric, rise, name in rises:
        if rise is not None and metric in starts and starts[metric] + rise <= 1.0:
            yield chart, name, starts[metric] + rise
    factors = (
        ("entropy", "entropy", config.entropy_floor, "Alarm below"),
        ("entropy", "entropy", config.entropy_rise, "Alarm above"),
        ("length", "length_mean", None if config.length_drop is None else 1 - config.length_drop, "Alarm below"),
    )
    for chart, metric, factor, name in factors:
        if factor is not None and metric in starts:
            yield chart, name, starts[metric] * factor
    labels = [mean for _, mean, _, _ in data.get("top_label_share", ()) if mean is not None]
    if config.one_answer_share is not None and labels and 2 * min(labels) <= 1.0:
        yield "labels-stable", "Alarm above, most common label", max(config.one_answer_share, 2 * min(labels))
    shifts = [mean for _, mean, _, _ in data.get("kl_step", ()) if mean is not None]
    if config.kl_jump is not None and len(shifts) >= MIN_SHIFTS:
        yield "shift", "Alarm above, next step", max(MIN_SHIFT, config.kl_jump * median(shifts[-SHIFT_WINDOW:]))


def _start(points: Sequence[SeriesPoint]) -> float | None:
    """What the safeguards compare with: the mean of the first steps; None until they are complete."""
    known = [mean for _, mean, _, _ in points if mean is not None][:START_STEPS]
    return fmean(known) if len(known) == START_STEPS else None
