"""The gain of every split over the steps as charts: its interval, the A/A band around 0, and the control."""

from __future__ import annotations

from collections.abc import Sequence

from app.charts import Chart, Series
from app.gain_curves import NOISE, GainCurve, gain_curves, gain_sentence
from app.pages.run_charts import INTERVAL_BAND
from app.services import Services
from worker.rows import EvaluationRow, RunRow


def gain_charts(services: Services, run: RunRow) -> list[Chart]:
    """One chart per split that was scored before and after."""
    return [_chart(run, index, curve) for index, curve in enumerate(gain_curves(services.store, run))]


def _chart(run: RunRow, index: int, curve: GainCurve) -> Chart:
    series = [Series("This run", _points(curve.rows), 3, band=INTERVAL_BAND, whiskers=len(curve.rows) <= 16)]
    if curve.control:
        name = f"Rewards by lot (run {curve.control_id})"
        series.append(Series(name, _points(curve.control), 2, band=INTERVAL_BAND, dash=True))
    if curve.noise is not None:
        last = max(row.step for row in (*curve.rows, *curve.control))
        band = [(step, 0.0, -curve.noise, curve.noise) for step in (0, last)]
        series.append(Series("A/A noise of the base", band, 8, band=NOISE, dash=True))
    return Chart(
        f"gain-{index}",
        f"Gain in pass@1, {curve.split.title} (n = {curve.split.num_problems})",
        series,
        "points",
        smooth=False,
        text=gain_sentence(curve),
        file=f"run-{run.id}-gain-{index}",
    )


def _points(rows: Sequence[EvaluationRow]) -> list[tuple[float | int | None, ...]]:
    """From 0 at step 0, where the gain is 0 by definition."""
    return [(0, 0.0, None, None), *((row.step, row.gain, row.gain_low, row.gain_high) for row in rows)]
