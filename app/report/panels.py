"""The report's own figures: gain against luck and lot, the checked labels, consensus against correctness."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

from app.figures import COLORS, INK, QUIET, Panel, finish, shares
from app.format import interval, percent
from app.gain_curves import GainCurve, gain_sentence
from app.spot_checks import SpotCheck
from ttrl_engine.calibration import Calibration
from worker.rows import EvaluationRow


def gain_panel(index: int, curve: GainCurve) -> Panel:
    """The gain with its interval, the A/A band around 0, and the control where there is one."""
    title = f"Gain in pass@1, {curve.split.title}"

    def draw(axes: Axes) -> None:
        if curve.noise is not None:
            axes.axhspan(-curve.noise, curve.noise, color=QUIET, alpha=0.18, linewidth=0, label="A/A noise of the base")
        axes.axhline(0.0, color=INK, linewidth=0.9)
        _gain(axes, curve.rows, COLORS[2], "this run", "-")
        if curve.control:
            _gain(axes, curve.control, COLORS[1], f"rewards by lot (run {curve.control_id})", "--")
        axes.yaxis.set_major_formatter(FuncFormatter(_points))
        finish(axes, title, "points")

    return Panel(f"gain{index}", title, f"{title}: {gain_sentence(curve)}", draw)


def _points(value: float, _place: int | None) -> str:
    return "0" if abs(value) < 1e-9 else f"{100 * value:+.0f}".replace("-", "−")


def _gain(axes: Axes, rows: tuple[EvaluationRow, ...], color: str, label: str, style: str) -> None:
    xs, ys = [0, *(row.step for row in rows)], [0.0, *(row.gain or 0.0 for row in rows)]
    axes.plot(xs, ys, color=color, linestyle=style, marker="o", markersize=3, linewidth=1.6, label=label)
    known = [(r.step, r.gain_low, r.gain_high) for r in rows if r.gain_low is not None and r.gain_high is not None]
    for step, low, high in known:
        axes.plot([step, step], [low, high], color=color, linewidth=1.1, alpha=0.75)


def spot_panel(check: SpotCheck) -> Panel:
    """The share of right labels among the checked ones over the steps, with Wilson's interval."""
    known = [(each.step, each.accuracy, *each.interval) for each in check.tallies if each.accuracy is not None]
    title = "Label accuracy by the spot check"

    def draw(axes: Axes) -> None:
        steps, rates, low, high = zip(*known, strict=True)
        axes.plot(steps, rates, color=COLORS[2], linewidth=1.6, label="right labels")
        axes.fill_between(steps, low, high, color=COLORS[2], alpha=0.16, linewidth=0, label="95 % interval (Wilson)")
        shares(axes)
        finish(axes, title, "")

    now = check.now
    words = f"{percent(now.accuracy)} {interval(*now.interval)} of {now.num_judged} judged labels at step {now.step}"
    return Panel("spot", title, f"{title}: {words}.", draw)


def calibration_panel(found: Calibration, by: str) -> Panel:
    """Consensus against correctness; on the dashed line a label is right as often as its votes agree. `by` is what
    says which labels are right, in two words."""
    title = f"Consensus against correctness, {by}"
    agreed, right = percent(found.consensus), percent(found.accuracy)
    words = f"{found.num_labels} labels; on average {agreed} of the votes agreed, {right} of the labels are right"

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1.1, label="as often right as agreed on")
        xs, ys = [each.consensus for each in found.bins], [each.accuracy for each in found.bins]
        axes.plot(xs, ys, color=COLORS[2], marker="o", markersize=4, linewidth=1.2, label="right labels")
        for each in found.bins:
            axes.plot([each.consensus] * 2, [each.low_95, each.high_95], color=COLORS[2], linewidth=1.1, alpha=0.75)
        shares(axes)
        finish(axes, title, "", "consensus")
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))

    return Panel(f"calibration-{by.partition(' ')[0]}", title, f"{title}: {words}. The bins are in the text.", draw)
