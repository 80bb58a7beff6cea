"""Who flipped which way: each problem's vote by the base and by the adapted model, from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from app.evaluations import SplitSeries
from ttrl_engine.config import AnswerConfig
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import task_for
from worker.rows import ComparisonRow, ProblemRow, ScoreRow, SideRow
from worker.store import Store

Verdict: TypeAlias = Literal["to_right", "to_wrong", "both_right", "both_wrong"]
Filter: TypeAlias = Literal["all", "to_right", "to_wrong", "both_right", "both_wrong", "different", "same"]

VERDICTS: dict[Verdict, str] = {
    "to_right": "Flipped to right",
    "to_wrong": "Flipped to wrong",
    "both_right": "Both right",
    "both_wrong": "Both wrong",
}


@dataclass(frozen=True)
class Said:
    """How one model voted on one problem. `right` is None where no reference answer is known, `num_right` where the
    single samples were not judged, `consensus` where it was not stored."""

    answer: str | None
    right: bool | None
    num_samples: int
    num_right: int | None = None
    consensus: float | None = None
    mean_length: float | None = None


@dataclass(frozen=True)
class Flip:
    """One problem by the base model and by the adapted one. `problem` is None where its set is not stored here."""

    problem_id: str
    problem: ProblemRow | None
    base: Said
    adapted: Said
    same: bool

    @property
    def verdict(self) -> Verdict | None:
        """By the vote of the samples, which is what a user of the model would take; None where it cannot be told."""
        if self.base.right is None or self.adapted.right is None:
            return None
        if self.adapted.right:
            return "both_right" if self.base.right else "to_right"
        return "to_wrong" if self.base.right else "both_wrong"

    @property
    def change(self) -> float:
        """Share of right samples after minus before; 0 where the samples were not judged."""
        if self.base.num_right is None or self.adapted.num_right is None:
            return 0.0
        return self.adapted.num_right / max(1, self.adapted.num_samples) - self.base.num_right / max(
            1, self.base.num_samples
        )

    def passes(self, wanted: Filter) -> bool:
        """Whether a filter lets it through."""
        if wanted in ("same", "different"):
            return self.same == (wanted == "same")
        return wanted in ("all", self.verdict)

    def holds(self, query: str) -> bool:
        """Whether problem, id, reference or an answer contains the text, whatever its case."""
        known = (self.problem.prompt, self.problem.reference) if self.problem else ()
        texts = (self.problem_id, *known, self.base.answer, self.adapted.answer)
        return any(query.casefold() in text.casefold() for text in texts if text)


def flips(
    store: Store, run_id: int, series: SplitSeries, rule: AnswerConfig, set_id: str | None, step: int | None = None
) -> list[Flip]:
    """The problems scored at step 0 and at `step` (None takes the newest), greatest change first; empty while only the
    base has been scored. `set_id` is where the problems are stored."""
    after = series.newest.step if step is None else step
    if series.base is None or after == 0:
        return []
    before = {score.problem_id: score for score in store.scores(run_id, 0, series.split, series.problem_set)}
    scores = store.scores(run_id, after, series.split, series.problem_set)
    problems = store.problems_of(set_id, [score.problem_id for score in scores])
    rule_json = rule.model_dump_json()
    found = [
        _flip(rule_json, score.problem_id, problems, _scored(before[score.problem_id]), _scored(score))
        for score in scores
        if score.problem_id in before
    ]
    return sorted(found, key=lambda flip: (-abs(flip.change), flip.problem_id))


def compared_flips(store: Store, comparison: ComparisonRow, rule: AnswerConfig) -> list[Flip]:
    """The problems of a comparison over a set that both models have answered: different answers first, then in the
    order of the set."""
    sides: dict[str, dict[str, SideRow]] = {}
    for side in store.compared_sides(comparison.id):
        sides.setdefault(side.problem_id, {})[side.side] = side
    both = {name: found for name, found in sides.items() if len(found) == 2}
    problems = store.problems_of(comparison.set_id, both)
    rule_json = rule.model_dump_json()
    found = []
    for name, pair in both.items():
        problem = problems.get(name)
        base, adapted = (_answered(rule_json, pair[side], problem) for side in ("base", "adapted"))
        found.append(_flip(rule_json, name, problems, base, adapted))
    return sorted(found, key=lambda flip: (flip.same, flip.problem.idx if flip.problem else 0))


def _scored(score: ScoreRow) -> Said:
    return Said(
        score.maj_answer, score.maj_correct, score.num_samples, score.num_correct, mean_length=score.mean_length
    )


def _answered(rule_json: str, side: SideRow, problem: ProblemRow | None) -> Said:
    right = None
    if problem is not None and problem.reference is not None:
        right = side.label is not None and same_answer(rule_json, _asked(problem), side.label, problem.reference)
    return Said(side.label, right, side.num_samples, consensus=side.consensus, mean_length=side.mean_length)


def _flip(rule_json: str, name: str, problems: Mapping[str, ProblemRow], base: Said, adapted: Said) -> Flip:
    problem = problems.get(name)
    if base.answer == adapted.answer:
        same = True
    elif base.answer is None or adapted.answer is None or base.right != adapted.right:
        same = False
    elif base.right:
        same = True
    else:
        asked = _asked(problem) if problem else Problem(name, "")
        same = same_answer(rule_json, asked, base.answer, adapted.answer)
    return Flip(name, problem, base, adapted, same)


def _asked(problem: ProblemRow) -> Problem:
    return Problem(problem.problem_id, problem.prompt, problem.choices)


@lru_cache(maxsize=16_384)
def same_answer(rule_json: str, problem: Problem, one: str, other: str) -> bool:
    """Whether a rule (an `AnswerConfig` as JSON) takes both for one answer. Remembered: it may take milliseconds."""
    return task_for(AnswerConfig.model_validate_json(rule_json)).equivalent(one, other, problem)
