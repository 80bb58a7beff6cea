"""Who flipped which way: each problem's vote before and after, from the scores that evaluations left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from app.evaluations import SplitSeries
from worker.rows import ScoreRow
from worker.store import Store

Verdict: TypeAlias = Literal["to_right", "to_wrong", "both_right", "both_wrong"]

VERDICTS: dict[Verdict, str] = {
    "to_right": "Flipped to right",
    "to_wrong": "Flipped to wrong",
    "both_right": "Both right",
    "both_wrong": "Both wrong",
}


@dataclass(frozen=True)
class Flip:
    """One problem in two evaluations of the same split: the base model's and the newest."""

    base: ScoreRow
    adapted: ScoreRow

    @property
    def problem_id(self) -> str:
        return self.base.problem_id

    @property
    def verdict(self) -> Verdict:
        """By the vote of the samples, which is what a user of the model would take."""
        if self.adapted.maj_correct:
            return "both_right" if self.base.maj_correct else "to_right"
        return "to_wrong" if self.base.maj_correct else "both_wrong"

    @property
    def change(self) -> float:
        """Share of right samples after minus before."""
        return self.adapted.num_correct / max(1, self.adapted.num_samples) - self.base.num_correct / max(
            1, self.base.num_samples
        )


def flips(store: Store, run_id: int, series: SplitSeries) -> list[Flip]:
    """The problems scored both before and after, greatest change first; empty while only one evaluation is there."""
    if series.base is None or series.newest.step == 0:
        return []
    before = {score.problem_id: score for score in store.scores(run_id, 0, series.split, series.problem_set)}
    after = store.scores(run_id, series.newest.step, series.split, series.problem_set)
    paired = [Flip(before[score.problem_id], score) for score in after if score.problem_id in before]
    return sorted(paired, key=lambda flip: (-abs(flip.change), flip.problem_id))
