"""Scoring a policy against reference answers, and polling held-out problems without any. Nothing in here can reach a
reward or a weight."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ttrl_engine.config import EvalConfig
from ttrl_engine.events import EvaluationFinished, ProblemScore, Split
from ttrl_engine.problems import Problem, References
from ttrl_engine.prompts import PromptFormat
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.sampler import (
    Rollout,
    Sampler,
    SampleRequest,
    SamplingParams,
    ShouldStop,
    StopRequested,
    stream_of,
)
from ttrl_engine.stats import avg_at_k, maj_at_k, paired_gain, pass_at_k, rate_interval, wilson_interval
from ttrl_engine.tasks.base import Task
from ttrl_engine.variety import ProblemVote, held_out_metrics
from ttrl_engine.vote import Election, elect


@dataclass(frozen=True)
class Exam:
    """Problems of one split, drawn once per run and asked at every evaluation.

    Those with a reference are scored. Of those named in `polled` the answers are held against each other; which they
    are does not depend on references.
    """

    split: Split
    problem_set: str
    problems: tuple[Problem, ...]
    references: References
    polled: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str]:
        """What tells two exams of a run apart."""
        return (self.split.value, self.problem_set)

    @property
    def digest(self) -> str:
        """Changes with any problem or reference in it."""
        rows = [
            (p.id, p.prompt, p.choices, self.references.get(p.id), *(["polled"] if p.id in self.polled else []))
            for p in self.problems
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Marks:
    """What one policy got in one exam: `scores` of the problems with a reference, their lengths in tokens and share of
    cut answers; `alike` are the metrics of `variety.held_out_metrics` over the polled problems."""

    scores: tuple[ProblemScore, ...]
    mean_length: float
    truncated: float
    alike: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint or a cache."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Marks:
        """The inverse of `as_dict`."""
        scores = tuple(ProblemScore(**score) for score in data["scores"])
        return cls(scores, float(data["mean_length"]), float(data["truncated"]), data.get("alike", {}))


class BaseScores(Protocol):
    """Remembers the marks of base models, which cost as much as a training step and never change."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The marks stored under a key, or None."""
        ...

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Store marks."""
        ...


class NoBaseScores:
    """Remembers nothing."""

    def get(self, key: str) -> Mapping[str, Any] | None:  # noqa: ARG002  # the protocol's
        """Always None."""
        return None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Forget."""


def draw_exam(
    split: Split, problem_set: str, problems: tuple[Problem, ...], references: References, config: EvalConfig, seed: int
) -> Exam | None:
    """The problems of a split that have a reference, at most `config.max_problems`, and as many held-out problems
    whether they have one or not; None where there are none."""
    ordered = sorted(problems, key=lambda problem: stream_of(seed, "exam", problem.id))
    scored = {problem.id for problem in [each for each in ordered if each.id in references][: config.max_problems]}
    polled = {problem.id for problem in ordered[: config.max_problems]} if split is Split.HELD_OUT else set()
    chosen = tuple(problem for problem in problems if problem.id in scored | polled)
    if not chosen:
        return None
    return Exam(split, problem_set, chosen, {name: references[name] for name in sorted(scored)}, frozenset(polled))


def take_exam(
    exam: Exam,
    sampler: Sampler,
    prompts: PromptFormat,
    config: EvalConfig,
    params: SamplingParams,
    stream: int,
    on_progress: Callable[[int, int], None],
    should_stop: ShouldStop,
    ranks: Ranks = ALONE,
) -> Marks:
    """Sample k answers per problem and mark them, each rank those of its problems; the marks of all. maj@k breaks a
    tie by the answer sampled first.

    Raises StopRequested.
    """
    mine = ranks.share(exam.problems)

    def mark() -> list[tuple[ProblemScore | None, ProblemVote]]:
        requests = [
            SampleRequest(prompts.ids(problem), config.num_samples, stream_of(stream, problem.id)) for problem in mine
        ]
        answers = sampler.sample(requests, params, on_progress, should_stop) if mine else []
        return _marked(exam, mine, answers, prompts, should_stop)

    marked = ranks.merged(ranks.unless_stopped(mark))
    scores = tuple(score for score, _ in marked if score is not None)
    # Nothing is reported of no scores, so what is over them then does not matter.
    num_answers = max(1, sum(score.num_samples for score in scores))
    return Marks(
        scores,
        round(sum((score.mean_length or 0.0) * score.num_samples for score in scores)) / num_answers,
        sum(score.num_truncated or 0 for score in scores) / num_answers,
        held_out_metrics(
            [vote for problem, (_, vote) in zip(exam.problems, marked, strict=True) if problem.id in exam.polled]
        ),
    )


def _marked(
    exam: Exam,
    problems: Sequence[Problem],
    answers: Sequence[Sequence[Rollout]],
    prompts: PromptFormat,
    should_stop: ShouldStop,
) -> list[tuple[ProblemScore | None, ProblemVote]]:
    """The score of each problem, None where it has no reference, and how its samples voted."""
    marked = []
    for problem, rollouts in zip(problems, answers, strict=True):
        if should_stop():
            raise StopRequested
        task = prompts.task
        _, extractions = prompts.read(problem, rollouts)
        election = elect(extractions, task, problem, tie="first_sampled")
        reference = exam.references.get(problem.id)
        score = None if reference is None else _score(election, problem, rollouts, reference, task)
        marked.append((score, ProblemVote.of(election)))
    return marked


def _score(
    election: Election, problem: Problem, rollouts: Sequence[Rollout], reference: str, task: Task
) -> ProblemScore:
    right = [task.equivalent(each.answer, reference, problem) for each in election.classes]
    return ProblemScore(
        problem_id=problem.id,
        num_samples=len(rollouts),
        num_correct=sum(each.count for each, correct in zip(election.classes, right, strict=True) if correct),
        maj_answer=election.label,
        maj_correct=election.winner is not None and right[election.winner],
        num_unparsed=election.num_unparsed,
        num_truncated=sum(rollout.finish == "length" for rollout in rollouts),
        mean_length=sum(len(rollout.tokens) for rollout in rollouts) / len(rollouts),
    )


def report(
    exam: Exam, marks: Marks, base: Marks | None, step: int, from_cache: bool, seconds: float = 0.0
) -> EvaluationFinished:
    """The marks with their intervals, and the gain over the base paired per problem (None at step 0)."""
    shares = [score.num_correct / score.num_samples for score in marks.scores]
    majorities = [score.maj_correct for score in marks.scores]
    avg_low, avg_high = rate_interval(shares)
    maj_low, maj_high = wilson_interval(sum(majorities), len(majorities))
    gain: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
    if base is not None and step > 0:
        before = [score.num_correct / score.num_samples for score in base.scores]
        gain = paired_gain(before, shares)
    k = marks.scores[0].num_samples
    return EvaluationFinished(
        step=step,
        split=exam.split,
        problem_set=exam.problem_set,
        num_samples=k,
        avg=avg_at_k([score.num_correct for score in marks.scores], [score.num_samples for score in marks.scores]),
        avg_low=avg_low,
        avg_high=avg_high,
        maj=maj_at_k(majorities),
        maj_low=maj_low,
        maj_high=maj_high,
        pass_k=sum(pass_at_k(score.num_samples, score.num_correct, k) for score in marks.scores) / len(marks.scores),
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        mean_length=marks.mean_length,
        truncated=marks.truncated,
        scores=marks.scores,
        from_cache=from_cache,
        seconds=seconds,
    )
