"""Blind judgement of base against adapted: which pair comes next, and what the votes come to once they are in."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ttrl_engine.stats import mcnemar_exact, wilson_interval
from worker.rows import BlindSessionRow, BlindVoteRow, ComparisonRow, ProblemRow
from worker.store import Store

Side: TypeAlias = Literal["base", "adapted"]
SIDES: tuple[Side, Side] = ("base", "adapted")


@dataclass(frozen=True)
class Item:
    """One pair of answers. `left` says whose is at the left; no page may show it before the session has ended."""

    problem: ProblemRow
    left: Side
    answers: Mapping[Side, Mapping[str, Any]]

    @property
    def right(self) -> Side:
        """Whose answer is at the right."""
        return "adapted" if self.left == "base" else "base"

    def winner(self, vote: BlindVoteRow) -> Side | None:
        """Whose answer a vote prefers; None for a tie and for both bad."""
        return {"left": self.left, "right": self.right}.get(vote.said)


@dataclass(frozen=True)
class Session:
    """A session with its pairs in the order they are asked. `num_same` pairs hold the same text twice and are not
    asked; `votes` are by problem id, in the order they were said."""

    row: BlindSessionRow
    comparison: ComparisonRow
    items: tuple[Item, ...]
    num_same: int
    votes: dict[str, BlindVoteRow]

    @property
    def ready(self) -> bool:
        """Both models have answered, or have stopped to."""
        return self.comparison.job.is_terminal

    @property
    def ended(self) -> bool:
        """The names may be shown: a person ended it."""
        return self.row.ended_at is not None

    @property
    def next(self) -> tuple[int, Item] | None:
        """The first pair without a vote, with its place from 1."""
        waiting = ((place, item) for place, item in enumerate(self.items, 1) if not self.voted(item))
        return next(waiting, None) if self.ready and not self.ended else None

    def voted(self, item: Item) -> bool:
        """Whether there is a vote on a pair."""
        return item.problem.problem_id in self.votes


def session_of(store: Store, session_id: int) -> Session | None:
    """A session, read anew. The order of the problems and the sides are drawn from its seed alone."""
    row = store.blind_session(session_id)
    comparison = store.comparison(row.comparison_id) if row else None
    if row is None or comparison is None:
        return None
    items, num_same = _items(store, row, comparison) if comparison.job.is_terminal else ((), 0)
    votes = {vote.problem_id: vote for vote in store.blind_votes(row.id)}
    return Session(row, comparison, items, num_same, votes)


def _items(store: Store, row: BlindSessionRow, comparison: ComparisonRow) -> tuple[tuple[Item, ...], int]:
    drawn = random.Random(row.seed)
    names = drawn.sample(comparison.problem_ids, len(comparison.problem_ids))
    lefts: list[Side] = [drawn.choice(SIDES) for _ in names]
    problems = store.problems_of(comparison.set_id, names)
    first = store.first_answers(comparison.id)
    found = []
    num_same = 0
    for name, left in zip(names, lefts, strict=True):
        known = first.get(name, {})
        if len(known) < len(SIDES) or name not in problems:
            continue
        answers: dict[Side, Mapping[str, Any]] = {side: known[side] for side in SIDES}
        if answers["base"]["text"].strip() == answers["adapted"]["text"].strip():
            num_same += 1
            continue
        found.append(Item(problems[name], left, answers))
    return tuple(found), num_same


@dataclass(frozen=True)
class Share:
    """`num` of `total` with Wilson's 95 % interval, and the exact sign test against one half."""

    num: int
    total: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share."""
        return wilson_interval(self.num, self.total)

    @property
    def p(self) -> float:
        """Two-sided chance of a split at least as uneven by luck; 1 without votes."""
        return mcnemar_exact(self.total - self.num, self.num)

    @property
    def established(self) -> bool:
        """Whether the interval leaves one half out, and the test agrees."""
        low, high = self.interval
        return (low > 0.5 or high < 0.5) and self.p < 0.05


@dataclass(frozen=True)
class Tally:
    """What the votes came to. `adapted` and `left` are shares of the votes that preferred one answer."""

    num_votes: int
    num_ties: int
    num_both_bad: int
    adapted: Share
    left: Share


def tally(items: Sequence[Item], votes: Mapping[str, BlindVoteRow]) -> Tally:
    """Count the votes on these pairs."""
    said = [(item, votes[item.problem.problem_id]) for item in items if item.problem.problem_id in votes]
    words = [vote.said for _, vote in said]
    winners = [item.winner(vote) for item, vote in said]
    decided = len(winners) - winners.count(None)
    return Tally(
        len(said),
        words.count("tie"),
        words.count("both_bad"),
        Share(winners.count("adapted"), decided),
        Share(words.count("left"), decided),
    )
