"""The figure of a run for reports: drawn by matplotlib on the server, as PNG, SVG or PDF."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from app.evaluations import SplitSeries, split_series
from worker.rows import RunRow
from worker.store import Store

MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
# Okabe and Ito: told apart with any kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B5BB5", "#6B7280")

# Matplotlib's font cache is shared by all threads.
_drawing = threading.Lock()


def run_figure(store: Store, run: RunRow, ending: Literal["png", "svg", "pdf"]) -> bytes:
    """Four panels: agreement, accuracy with its intervals, entropy, length."""
    names = ("consensus", "label_accuracy", "entropy", "length_mean")
    series = store.metric_series(run.id, names)
    with _drawing:
        figure = Figure(figsize=(10, 6.6), layout="constrained")
        panels = figure.subplots(2, 2)
        figure.suptitle(_plain(f"{run.name} (run {run.id}, seed {run.seed}, {run.step} steps)"), fontsize=12)
        agreement = panels[0][0]
        _line(agreement, [(p[0], p[1]) for p in series["consensus"]], "consensus", COLORS[0])
        _line(agreement, [(p[0], p[1]) for p in series["label_accuracy"]], "pseudo-label accuracy", COLORS[1])
        _share(agreement, "Votes")
        if not series["label_accuracy"]:
            _remark(agreement, "pseudo-label accuracy: unknown,\nno reference answers")
        _accuracy(panels[0][1], split_series(store.evaluations(run.id)))
        _line(panels[1][0], [(p[0], p[1]) for p in series["entropy"]], "entropy", COLORS[2])
        _finish(panels[1][0], "Entropy", "nats per token")
        _line(panels[1][1], [(p[0], p[1]) for p in series["length_mean"]], "mean length", COLORS[3])
        _finish(panels[1][1], "Answer length", "tokens")
        out = io.BytesIO()
        figure.savefig(out, format=ending, dpi=160)
    return out.getvalue()


def _accuracy(axes: Axes, splits: Sequence[SplitSeries]) -> None:
    for split, color in zip(splits, COLORS, strict=False):
        rows = [row for row in split.rows if row.avg is not None]
        xs, ys = [row.step for row in rows], [row.avg or 0.0 for row in rows]
        axes.plot(
            xs,
            ys,
            color=color,
            marker="o",
            markersize=3,
            linewidth=1.6,
            label=_plain(f"{split.title}, n = {split.num_problems}"),
        )
        bands = [
            (row.step, row.avg_low, row.avg_high)
            for row in rows
            if row.avg_low is not None and row.avg_high is not None
        ]
        if bands:
            steps, low, high = zip(*bands, strict=True)
            axes.fill_between(steps, low, high, color=color, alpha=0.14, linewidth=0)
        if rows and rows[0].step == 0 and rows[0].maj is not None:
            axes.axhline(rows[0].maj, color=color, linestyle=":", linewidth=1)
    if not splits:
        _remark(axes, "unknown: nothing with reference answers\nwas evaluated")
    _share(axes, "pass@1 with 95 % intervals (dotted: base majority vote)")


def _line(axes: Axes, points: Sequence[tuple[int, float | None]], label: str, color: str) -> None:
    known = [(x, float("nan") if y is None else y) for x, y in points]
    if known:
        xs, ys = zip(*known, strict=True)
        axes.plot(xs, ys, color=color, linewidth=1.6, label=label)


def _share(axes: Axes, title: str) -> None:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(axes, title, "")


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#e5e7eb", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _remark(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.06, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=8, color="#6b7280")


def _plain(text: str) -> str:
    """Names are users' text: a dollar sign would start mathematics, a control character breaks an SVG."""
    shown = "".join(letter for letter in text if letter.isprintable())
    return shown[:110].replace("$", r"\$")
