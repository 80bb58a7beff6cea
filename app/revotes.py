"""Elections of a run held again from its stored rollouts, remembered while somebody looks at them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ttrl_engine.config import AnswerConfig, VoteConfig
from ttrl_engine.problems import Problem
from ttrl_engine.revote import Revote, read_rollouts, revote, rollout_path
from ttrl_engine.tasks import task_for
from worker.rows import RunRow
from worker.store import Store

# A page waits no longer than this for elections of other steps.
PATIENCE_S = 4.0


@dataclass(frozen=True)
class Effect:
    """What a rule does to several elections: how many there are, how many elect another label, how many elected the
    reference before and after (None without references), and the mean consensus before and after."""

    num: int
    changed: int
    right_before: int | None
    right_after: int | None
    consensus_before: float
    consensus_after: float
    places: tuple[str, ...]
    all_read: bool


class Past:
    """The stored elections of one run under any rule."""

    def __init__(self, store: Store, run: RunRow) -> None:
        self._store, self._run = store, run
        self._folder = store.run_folder(run.id)
        self._vote = run.config.vote

    def rows(self, step: int, problem_id: str | None = None) -> tuple[dict[str, Any], ...]:
        """The stored rollouts of a step, of one problem if named; empty where they are gone."""
        return _rows(self._folder, step, problem_id, _mark(self._folder, step))

    def one(self, step: int, problem_id: str, answers: AnswerConfig) -> Revote | None:
        """One election under a rule; None where its rollouts or its problem are gone. Raises ConfigError."""
        held = self._held(step, problem_id, (problem_id,), answers)
        return held[0] if held else None

    def effect_on_problem(
        self, steps: Sequence[int], problem_id: str, before: AnswerConfig, after: AnswerConfig
    ) -> Effect | None:
        """What changing the rule does to the elections of one problem, newest first as far as patience lasts."""
        ends = time.monotonic() + PATIENCE_S
        pairs: list[tuple[str, Revote, Revote]] = []
        all_read = True
        for step in sorted(steps, reverse=True):
            if pairs and time.monotonic() > ends:
                all_read = False
                break
            one, other = self.one(step, problem_id, before), self.one(step, problem_id, after)
            if one is not None and other is not None:
                pairs.append((f"step {step:,}", one, other))
        return _effect(list(reversed(pairs)), after, all_read)

    def effect_on_step(self, step: int, before: AnswerConfig, after: AnswerConfig) -> Effect | None:
        """What changing the rule does to all elections of one step."""
        names = tuple(dict.fromkeys(str(row.get("problem_id")) for row in self.rows(step)))
        pairs = zip(self._held(step, None, names, before), self._held(step, None, names, after), strict=True)
        return _effect([(one.problem.id, one, other) for one, other in pairs], after, True)

    def _held(
        self, step: int, only: str | None, problem_ids: tuple[str, ...], answers: AnswerConfig
    ) -> tuple[Revote, ...]:
        known = [(name, self._store.problem(self._run.set_id, name)) for name in problem_ids]
        asked = tuple(
            (Problem(name, found.prompt, found.choices), found.reference) for name, found in known if found is not None
        )
        return _revotes(self._folder, step, only, _mark(self._folder, step), asked, answers, self._vote)


def _mark(folder: Path, step: int) -> int:
    """Changes when the file of a step is written anew, as after a resume."""
    try:
        return rollout_path(folder, step).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=64)
def _rows(folder: Path, step: int, problem_id: str | None, _written: int) -> tuple[dict[str, Any], ...]:
    return tuple(read_rollouts(folder, step, problem_id))


@lru_cache(maxsize=512)
def _revotes(
    folder: Path,
    step: int,
    only: str | None,
    written: int,
    asked: tuple[tuple[Problem, str | None], ...],
    answers: AnswerConfig,
    vote: VoteConfig,
) -> tuple[Revote, ...]:
    problems = {problem.id: problem for problem, _ in asked}
    references = {problem.id: reference for problem, reference in asked if reference is not None}
    return tuple(revote(_rows(folder, step, only, written), problems, references, answers, vote))


def _effect(pairs: Sequence[tuple[str, Revote, Revote]], after: AnswerConfig, all_read: bool) -> Effect | None:
    if not pairs:
        return None
    task = task_for(after)

    def differs(one: Revote, other: Revote) -> bool:
        before, now = one.election.winning_class, other.election.winning_class
        if before is None or now is None:
            return before is not now
        return not task.equivalent(before.answer, now.answer, other.problem)

    known = [(one.quality, other.quality) for _, one, other in pairs if one.quality and other.quality]
    changed = tuple(place for place, one, other in pairs if differs(one, other))
    return Effect(
        num=len(pairs),
        changed=len(changed),
        right_before=sum(one.label_correct for one, _ in known) if known else None,
        right_after=sum(other.label_correct for _, other in known) if known else None,
        consensus_before=sum(one.election.consensus for _, one, _ in pairs) / len(pairs),
        consensus_after=sum(other.election.consensus for _, _, other in pairs) / len(pairs),
        places=changed,
        all_read=all_read,
    )
