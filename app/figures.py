"""The figures of a run, drawn by matplotlib on the server: one sheet as PNG, SVG or PDF, and single panels."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from app.evaluations import SplitSeries, gain_words, rate_words, sample_size, split_series
from app.format import number, percent
from worker.rows import AlarmRow, EvaluationRow, RunRow, SeriesPoint
from worker.store import Store

MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
# Okabe and Ito: told apart with any kind of colour vision, and on white as on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B5BB5", "#6B7280")
METRICS = (
    "consensus",
    "margin",
    "label_accuracy",
    "reward_accuracy",
    "entropy",
    "length_mean",
    "length_max",
    "truncated_share",
    "unparsed_share",
    "kl_step",
    "kl_base",
)
MAX_SPLITS = 6

INK, _GRID, QUIET = "#1a2230", "#e5e7eb", "#6b7280"
_RATE_LIMITS = (-0.02, 1.02)
# Matplotlib's font cache and its settings are shared by all threads.
_drawing = threading.Lock()

Series = Mapping[str, Sequence[SeriesPoint]]


@dataclass(frozen=True)
class Panel:
    """One chart: how it is drawn, and the sentence that says the same in words."""

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


@contextmanager
def drawing() -> Iterator[None]:
    """Whoever draws holds this: text stays text in the files, and a user's dollar sign stays one."""
    with _drawing, mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False}):
        yield


def run_figure(store: Store, run: RunRow, ending: Literal["png", "svg", "pdf"]) -> bytes:
    """All panels on one sheet."""
    panels = run_panels(store.metric_series(run.id, METRICS), store.evaluations(run.id), store.alarms(run.id))
    num_rows = -(-len(panels) // 2)
    with drawing():
        height_in = 3.1 * num_rows + 0.5
        figure = Figure(figsize=(10, height_in))
        # Not a layout engine: over ten panels it takes seconds.
        places = {"left": 0.07, "right": 0.98, "bottom": 0.5 / height_in, "top": 1 - 0.8 / height_in}
        grid = figure.subplots(num_rows, 2, squeeze=False, gridspec_kw={**places, "hspace": 0.42, "wspace": 0.18})
        title = plain(f"{run.name} (run {run.id}, seed {run.seed}, {run.step} steps)")
        figure.suptitle(title, fontsize=12, y=1 - 0.15 / height_in, va="top")
        grid = grid.ravel()
        for axes, panel in zip(grid, panels, strict=False):
            panel.draw(axes)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        out = io.BytesIO()
        figure.savefig(out, format=ending, dpi=160)
    return out.getvalue()


def panel_svg(panel: Panel, width_in: float = 5.6, height_in: float = 3.1) -> str:
    """One panel as an <svg> element for a page: ink and grid take the page's colours, every id is its own."""
    with drawing():
        figure = Figure(figsize=(width_in, height_in))
        panel.draw(figure.add_axes((0.11, 0.15, 0.87, 0.75)))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several of these stand in one page.
    text = re.sub(r'\bid="', f'id="{panel.name}-', text)
    text = re.sub(r"url\(#", f"url(#{panel.name}-", text)
    text = re.sub(r'href="#', f'href="#{panel.name}-', text)
    for color, name in ((INK, "currentColor"), (_GRID, "var(--grid)"), (QUIET, "var(--quiet)")):
        text = re.sub(color, name, text, flags=re.IGNORECASE)
    # Sized by the page; the view box keeps the proportions. The caption says what is seen.
    return re.sub(
        r'<svg ([^>]*?)\bheight="[^"]*"([^>]*?)\bwidth="[^"]*"', r'<svg aria-hidden="true" \1\2', text, count=1
    )


def run_panels(data: Series, evaluations: Sequence[EvaluationRow], alarms: Sequence[AlarmRow]) -> list[Panel]:
    """What the figure and the report show, in this order; unknown values are said to be unknown."""
    marks = sorted({alarm.step for alarm in alarms})
    lines = partial(_lines_panel, data, marks)
    panels = [
        lines("consensus", "Consensus of the votes", [("consensus", "consensus"), ("margin", "margin to the second")]),
        lines(
            "labels",
            "Pseudo-labels and rewards against the references",
            [("label_accuracy", "pseudo-label accuracy"), ("reward_accuracy", "reward accuracy")],
            missing="unknown: no reference answers",
        ),
        *(_accuracy_panel(index, split, marks) for index, split in enumerate(split_series(evaluations)[:MAX_SPLITS])),
        lines("entropy", "Entropy", [("entropy", "entropy")], unit="nats per token"),
        lines("length", "Length of answers", [("length_mean", "mean"), ("length_max", "longest")], unit="tokens"),
        lines("cut", "Answers that do not count", [("truncated_share", "cut"), ("unparsed_share", "unreadable")]),
        lines("shift", "Shift of the policy (KL)", [("kl_step", "in this step"), ("kl_base", "from the base")], "nats"),
    ]
    if not evaluations:
        panels.insert(2, Panel("accuracy", "pass@1", "pass@1: unknown, nothing was evaluated.", _no_accuracy))
    return panels


def _lines_panel(
    data: Series,
    marks: Sequence[int],
    name: str,
    title: str,
    lines: Sequence[tuple[str, str]],
    unit: str = "",
    missing: str = "no values yet",
) -> Panel:
    known = [(key, label) for key, label in lines if any(point[1] is not None for point in data.get(key, ()))]

    def draw(axes: Axes) -> None:
        for (key, label), color in zip(known, COLORS, strict=False):
            _line(axes, data[key], label, color)
        if not known:
            _remark(axes, missing)
        _marks(axes, marks)
        if not unit:
            shares(axes)
        finish(axes, title, unit)

    def said(key: str, label: str) -> str:
        values = [point[1] for point in data[key] if point[1] is not None]
        first, last = (number(v, 4) if unit else percent(v) for v in (values[0], values[-1]))
        return f"{label} went from {first} to {last}"

    words = "; ".join(said(key, label) for key, label in known) or missing
    return Panel(name, title, f"{title}: {words}{f' ({unit})' if unit and known else ''}.", draw)


def _accuracy_panel(index: int, split: SplitSeries, marks: Sequence[int]) -> Panel:
    color = COLORS[index % len(COLORS)]
    base, newest = split.base, split.newest
    title = f"pass@1, {split.title}"

    def draw(axes: Axes) -> None:
        rows = [row for row in split.rows if row.avg is not None]
        label = f"pass@1, n = {split.num_problems} × {split.num_samples}"
        axes.plot(
            [row.step for row in rows],
            [row.avg or 0.0 for row in rows],
            color=color,
            marker="o",
            markersize=3,
            linewidth=1.6,
            label=label,
        )
        bands = [(r.step, r.avg_low, r.avg_high) for r in rows if r.avg_low is not None and r.avg_high is not None]
        if bands:
            steps, low, high = zip(*bands, strict=True)
            axes.fill_between(steps, low, high, color=color, alpha=0.16, linewidth=0, label="95 % interval")
        if base is not None and base.avg is not None:
            axes.axhline(base.avg, color=QUIET, linestyle="--", linewidth=1.1, label="base pass@1")
        if base is not None and base.maj is not None:
            axes.axhline(base.maj, color=INK, linestyle=(0, (6, 2, 1, 2)), linewidth=1.1, label="base maj@k")
        _marks(axes, marks)
        shares(axes)
        finish(axes, title, "")

    words = f"{rate_words(newest)} at step {newest.step}, {sample_size(newest)}"
    if base is not None:
        words += f"; the base model had {rate_words(base)}, its majority vote {percent(base.maj)}"
    if newest.step:
        words += f"; gain {gain_words(newest)}"
    return Panel(f"accuracy{index}", title, f"{title}: {words}.", draw)


def _no_accuracy(axes: Axes) -> None:
    _remark(axes, "unknown: nothing with reference answers\nwas evaluated")
    shares(axes)
    finish(axes, "pass@1", "")


def _line(axes: Axes, points: Sequence[SeriesPoint], label: str, color: str) -> None:
    xs = [point[0] for point in points]
    axes.plot(xs, [_drawn(point[1]) for point in points], color=color, linewidth=1.6, label=label)
    # Where several steps were drawn as one, the band keeps their least and greatest value in sight.
    if any(point[2] != point[3] for point in points):
        low, high = ([_drawn(point[i]) for point in points] for i in (2, 3))
        axes.fill_between(xs, low, high, color=color, alpha=0.14, linewidth=0)


def _drawn(value: float | None) -> float:
    return float("nan") if value is None else value


def _marks(axes: Axes, steps: Sequence[int]) -> None:
    for index, step in enumerate(steps):
        axes.axvline(step, color=COLORS[1], linestyle=":", linewidth=1, label="alarm" if index == 0 else None)


def shares(axes: Axes) -> None:
    """The y-axis from 0 to 100 %."""
    axes.set_ylim(*_RATE_LIMITS)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def finish(axes: Axes, title: str, unit: str, x_label: str = "step") -> None:
    """Title, labels, grid and legend, as every panel has them."""
    axes.set_title(plain(title, 60), fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(unit, fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _remark(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=QUIET)


def plain(text: str, limit: int = 110) -> str:
    """A user's text for a figure: on one line, without the control characters that break an SVG."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:limit]
