"""The problems that changed most between the base model and the adapted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluations import SPLIT_WORDS, SplitSeries
from worker.rows import RunRow
from worker.store import Store

NUM_SHOWN = 10
EXCERPT = 300
ANSWER = 80


@dataclass(frozen=True)
class Mover:
    """One problem before and after. Shares are 0 to 1; answers are those of the majority, None where none was read."""

    problem_id: str
    split: str
    prompt: str
    reference: str | None
    share_before: float
    share_after: float
    answer_before: str | None
    answer_after: str | None

    @property
    def change(self) -> float:
        """After minus before."""
        return self.share_after - self.share_before


@dataclass(frozen=True)
class Movers:
    """The ten that gained and the ten that lost most, and how many problems did which.

    `measure` is what changed: "pass rate" against references, or "consensus" where there are none. The four counts
    are of majority answers, and None without references: wrong then right, right then wrong, right both, wrong both.
    """

    measure: str
    num_problems: int
    num_better: int
    num_worse: int
    best: tuple[Mover, ...]
    worst: tuple[Mover, ...]
    learned: int | None = None
    degraded: int | None = None
    stable_right: int | None = None
    stable_wrong: int | None = None


def find_movers(store: Store, run: RunRow, splits: Sequence[SplitSeries]) -> Movers | None:
    """By pass rate on the run's own problems where they have references, else by consensus; None with neither."""
    own = [split for split in splits if split.split != "benchmark" and split.base is not None and split.newest.step]
    return _by_pass_rate(store, run, own) if own else _by_consensus(store, run)


def _by_pass_rate(store: Store, run: RunRow, splits: Sequence[SplitSeries]) -> Movers | None:
    found: list[Mover] = []
    majorities: list[tuple[bool, bool]] = []
    for split in splits:
        before = {row.problem_id: row for row in store.scores(run.id, 0, split.split, split.problem_set)}
        for after in store.scores(run.id, split.newest.step, split.split, split.problem_set):
            base = before.get(after.problem_id)
            if base is None or not base.num_samples or not after.num_samples:
                continue
            majorities.append((base.maj_correct, after.maj_correct))
            found.append(
                Mover(
                    after.problem_id,
                    SPLIT_WORDS.get(split.split, split.split),
                    "",
                    None,
                    base.num_correct / base.num_samples,
                    after.num_correct / after.num_samples,
                    base.maj_answer,
                    after.maj_answer,
                )
            )
    if not found:
        return None
    counts = [majorities.count(pair) for pair in ((False, True), (True, False), (True, True), (False, False))]
    return _ranked(store, run, "pass rate", found, counts)


def _by_consensus(store: Store, run: RunRow) -> Movers | None:
    found = [
        Mover(
            row.problem_id,
            SPLIT_WORDS["adapt"],
            "",
            None,
            row.consensus_first,
            row.consensus_last,
            row.first_label,
            row.last_label,
        )
        for row in store.problem_overview(run.id)
        if row.num_elections > 1
    ]
    return _ranked(store, run, "consensus", found, [None] * 4) if found else None


def _ranked(store: Store, run: RunRow, measure: str, found: list[Mover], counts: Sequence[int | None]) -> Movers:
    order = sorted(found, key=lambda mover: (-mover.change, mover.problem_id))
    best = [mover for mover in order[:NUM_SHOWN] if mover.change > 0]
    worst = [mover for mover in order[: -NUM_SHOWN - 1 : -1] if mover.change < 0]
    return Movers(
        measure,
        len(found),
        sum(mover.change > 0 for mover in found),
        sum(mover.change < 0 for mover in found),
        tuple(_with_text(store, run, mover) for mover in best),
        tuple(_with_text(store, run, mover) for mover in worst),
        *counts,
    )


def _with_text(store: Store, run: RunRow, mover: Mover) -> Mover:
    """The mover with what was asked; texts are cut, since a prompt may be long."""
    problem = store.problem(run.set_id, mover.problem_id)
    return Mover(
        mover.problem_id,
        mover.split,
        _cut(problem.prompt, EXCERPT) if problem else "The text of this problem is no longer stored.",
        None if problem is None or problem.reference is None else _cut(problem.reference, ANSWER),
        mover.share_before,
        mover.share_after,
        None if mover.answer_before is None else _cut(mover.answer_before, ANSWER),
        None if mover.answer_after is None else _cut(mover.answer_after, ANSWER),
    )


def _cut(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
