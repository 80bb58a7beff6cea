"""A person's word on single answers, on top of any kind: spellings declared one answer, spellings declared their own.

First every detached spelling gets a class of its own, then the classes of merged spellings become one. Both act on keys
alone, so sameness stays an equivalence, and a reference answer is judged by the same one. A spelling is what `display`
shows of an answer, for that is what a person saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ttrl_engine.config import Detach, Merge, TaskKind
from ttrl_engine.equivalence.reading import Reading
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction, Task


class RuledTask:
    """Implements `Task` by another task, with merges and detached spellings per problem."""

    def __init__(self, task: Task, merges: Sequence[Merge], detached: Sequence[Detach]) -> None:
        self._task = task
        self._merges: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        self._detached: defaultdict[str, set[str]] = defaultdict(set)
        for merge in merges:
            self._merges[merge.problem_id].append(merge.answers)
        for detach in detached:
            self._detached[detach.problem_id].add(task.display(detach.answer))
        self._merged: dict[Problem, Mapping[str, str]] = {}

    @property
    def kind(self) -> TaskKind:
        """That of the task below."""
        return self._task.kind

    @property
    def default_suffix(self) -> str:
        """That of the task below."""
        return self._task.default_suffix

    def extract(self, text: str, problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """As the task below."""
        return self._task.extract(text, problem, truncated=truncated)

    def keys(self, raws: Sequence[str], problem: Problem, /) -> dict[str, Reading]:
        """The keys of the task below under the person's word."""
        below = self._task.keys(raws, problem)
        if not self._speaks_of(problem):
            return below
        return {
            raw: Reading(self.canonical(raw, problem)) if reading.key or self._is_named(raw, problem) else reading
            for raw, reading in below.items()
        }

    def canonical(self, raw: str, problem: Problem, /) -> str:
        """The key of the task below under the person's word."""
        if not self._speaks_of(problem):
            return self._task.canonical(raw, problem)
        key = self._first(raw, problem)
        return self._merged_keys(problem).get(key, key)

    def equivalent(self, a: str, b: str, problem: Problem, /) -> bool:
        """Whether both have the same key; as the task below where nobody said anything on the problem."""
        if not self._speaks_of(problem):
            return self._task.equivalent(a, b, problem)
        return a == b or self.canonical(a, problem) == self.canonical(b, problem)

    def display(self, raw: str) -> str:
        """As the task below."""
        return self._task.display(raw)

    def _speaks_of(self, problem: Problem) -> bool:
        return problem.id in self._merges or problem.id in self._detached

    def _is_detached(self, raw: str, problem: Problem) -> bool:
        return self._task.display(raw) in self._detached.get(problem.id, ())

    def _is_named(self, raw: str, problem: Problem) -> bool:
        """An answer that cannot be read votes all the same once a person has said what it is."""
        spelling = self._task.display(raw)
        merged = (self._task.display(answer) for group in self._merges.get(problem.id, ()) for answer in group)
        return self._is_detached(raw, problem) or spelling in merged

    def _first(self, raw: str, problem: Problem) -> str:
        """The key before anything is merged."""
        alone = self._is_detached(raw, problem)
        return f"detached {self._task.display(raw)}" if alone else self._task.canonical(raw, problem)

    def _merged_keys(self, problem: Problem) -> Mapping[str, str]:
        """Key -> the one key that all merged with it have. Merges that share a class join."""
        known = self._merged.get(problem)
        if known is None:
            known = _joined(
                [[self._first(raw, problem) for raw in group] for group in self._merges.get(problem.id, ())]
            )
            self._merged[problem] = known
        return known


def _joined(groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Each key of the groups -> the least key it is joined with, directly or through others."""
    found: dict[str, str] = {}
    for group in groups:
        joined = {found.get(key, key) for key in group}
        least = min(joined)
        found |= {key: least for key, held in found.items() if held in joined} | dict.fromkeys(group, least)
    return found
