"""The vote: extracted answers in, one election out. References play no part; no function here takes one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction, Task

# Of a rollout that was called off because the vote was decided without it.
DROPPED: Final = Extraction(None, "called off: the vote was decided without it")

Abstention: TypeAlias = Literal["tie", "no answers", "low consensus", "low margin"]
TieRule: TypeAlias = Literal["abstain", "first_sampled"]


@dataclass(frozen=True)
class AnswerClass:
    """All rollouts of a problem whose answers are equivalent.

    `key` names the class; `answer` is its most frequent raw spelling (the earliest on a tie); `members` are rollout
    indexes in rising order; `spellings` are raw answers with their counts, most frequent first.
    """

    key: str
    answer: str
    members: tuple[int, ...]
    spellings: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        """Votes for the class."""
        return len(self.members)


@dataclass(frozen=True)
class Election:
    """The vote of one problem at one step.

    `classes`: most votes first, then by first member. `consensus`: the leading class's share of all rollouts, those
    without an answer counted in the denominator; 0 without answers. `margin`: its lead over the second, as a share of
    all rollouts. `winner` is the index of the pseudo-label's class, None where the election `abstained`; `label` is
    that class as shown, `label_key` its key. `unparsed` maps the index of each rollout without an answer to the reason.
    Of `num_dropped` rollouts the answer is not known, because the outcome was decided without them (see `early_vote`);
    `consensus` and `margin` are then the least they could have been.
    """

    problem_id: str
    num_rollouts: int
    classes: tuple[AnswerClass, ...]
    winner: int | None
    label: str | None
    label_key: str | None
    abstained: Abstention | None
    consensus: float
    margin: float
    unparsed: tuple[tuple[int, str], ...]
    num_dropped: int = 0

    @property
    def num_unparsed(self) -> int:
        """Rollouts that voted for nothing."""
        return len(self.unparsed)

    @property
    def num_classes(self) -> int:
        """Different answers given."""
        return len(self.classes)

    @property
    def unanimous(self) -> bool:
        """Every rollout, without exception, gave the same answer."""
        return self.num_classes == 1 and self.classes[0].count == self.num_rollouts

    @property
    def winning_class(self) -> AnswerClass | None:
        """The class of the pseudo-label; None where the election abstained."""
        return None if self.winner is None else self.classes[self.winner]


def elect(
    extractions: Sequence[Extraction],
    task: Task,
    problem: Problem,
    *,
    tie: TieRule = "abstain",
    min_consensus: float = 0.0,
    min_margin: float = 0.0,
) -> Election:
    """Hold the election of one problem over its N extractions, in sampling order.

    A tie for first either abstains or goes to the tied class sampled first. Thresholds are shares of all N, and a
    winner exactly at one passes. Rollouts without an answer vote for nothing and can never win.
    """
    classes, unread = _group(extractions, task, problem)
    num_rollouts = len(extractions)
    first = classes[0].count if classes else 0
    second = classes[1].count if len(classes) > 1 else 0
    consensus = first / num_rollouts if num_rollouts else 0.0
    num_dropped = sum(each == DROPPED for each in extractions)
    margin = max(0, first - second - num_dropped) / num_rollouts if num_rollouts else 0.0
    abstained: Abstention | None = None
    if not classes:
        abstained = "no answers"
    elif first == second and tie == "abstain":
        abstained = "tie"
    elif consensus < min_consensus:
        abstained = "low consensus"
    elif margin < min_margin:
        abstained = "low margin"
    winner = None if abstained else 0
    return Election(
        problem_id=problem.id,
        num_rollouts=num_rollouts,
        classes=classes,
        winner=winner,
        label=None if winner is None else task.display(classes[winner].answer),
        label_key=None if winner is None else classes[winner].key,
        abstained=abstained,
        consensus=consensus,
        margin=margin,
        unparsed=tuple(
            (i, unread.get(i) or each.reason or "")
            for i, each in enumerate(extractions)
            if (each.raw is None or i in unread) and each != DROPPED
        ),
        num_dropped=num_dropped,
    )


def rewards(election: Election) -> list[float]:
    """(N,) in sampling order: 1 for members of the winning class, else 0; all 0 where the election abstained."""
    result = [0.0] * election.num_rollouts
    if election.winning_class is not None:
        for index in election.winning_class.members:
            result[index] = 1.0
    return result


def _group(
    extractions: Sequence[Extraction], task: Task, problem: Problem
) -> tuple[tuple[AnswerClass, ...], dict[int, str]]:
    """The classes, and by index the reason of each answer that was found but could not be read."""
    readings = task.keys(list(dict.fromkeys(each.raw for each in extractions if each.raw is not None)), problem)
    members: dict[str, list[int]] = {}
    unread: dict[int, str] = {}
    for index, extraction in enumerate(extractions):
        if extraction.raw is None:
            continue
        reading = readings[extraction.raw]
        if reading.key is None:
            unread[index] = reading.reason or ""
        else:
            members.setdefault(reading.key, []).append(index)
    classes = []
    for key, indexes in members.items():
        spellings = Counter(raw for i in indexes if (raw := extractions[i].raw) is not None).most_common()
        classes.append(AnswerClass(key, spellings[0][0], tuple(indexes), tuple(spellings)))
    return tuple(sorted(classes, key=lambda each: (-each.count, each.members[0]))), unread
