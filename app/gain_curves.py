"""The gain over the steps against what luck and rewards by lot give: the A/A band and the control of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluations import SplitSeries, gain_words, sample_size, split_series
from app.format import points
from app.pages.run_control import control_of
from ttrl_engine.stats import sampling_noise
from worker.rows import EvaluationRow, RunRow, ScoreRow
from worker.store import Store

NOISE = "95 % of the differences between two scorings of the base model, by the luck of its samples alone"


@dataclass(frozen=True)
class GainCurve:
    """The gains of one split. `noise` is half the A/A band, None where one sample per problem shows no spread;
    `control` are the gains of the run with rewards by lot, empty where there is none."""

    split: SplitSeries
    rows: tuple[EvaluationRow, ...]
    noise: float | None
    control: tuple[EvaluationRow, ...] = ()
    control_id: int | None = None


def gain_curves(store: Store, run: RunRow) -> list[GainCurve]:
    """One per split that was scored before and after, adapt first."""
    control = control_of(store, run)
    others = {_key(each): each for each in split_series(store.evaluations(control.id))} if control is not None else {}
    found = []
    for split in split_series(store.evaluations(run.id)):
        rows = _gains(split)
        if split.base is None or not rows:
            continue
        noise = base_noise(store.scores(run.id, 0, split.split, split.problem_set))
        other = others.get(_key(split))
        lots = _gains(other) if other is not None else ()
        found.append(GainCurve(split, rows, noise, lots, control.id if control is not None and lots else None))
    return found


def base_noise(scores: Sequence[ScoreRow]) -> float | None:
    """Half the A/A band of these scores; None where it is not known."""
    return sampling_noise([score.num_correct for score in scores], [score.num_samples for score in scores])


def gain_sentence(curve: GainCurve) -> str:
    """The curve in words: the newest gain, the band, and the control's newest gain."""
    newest = curve.rows[-1]
    words = [f"Gain {gain_words(newest)} at step {newest.step}, {sample_size(newest)}"]
    if curve.noise is None:
        words.append("A/A noise unknown: with one sample per problem, the luck of sampling shows no spread")
    else:
        words.append(f"A/A noise of the base: {points(curve.noise).replace('+', '±')} in 95 % of cases")
    if curve.control:
        lot = curve.control[-1]
        gain = f"{gain_words(lot)} at step {lot.step}, {sample_size(lot)}"
        words.append(f"rewards by lot (run {curve.control_id}): {gain}")
    else:
        words.append("rewards by lot: unknown, no control was run")
    return "; ".join(words) + "."


def _key(split: SplitSeries) -> tuple[str, str]:
    return split.split, split.problem_set


def _gains(split: SplitSeries) -> tuple[EvaluationRow, ...]:
    return tuple(row for row in split.rows if row.step > 0 and row.gain is not None)
