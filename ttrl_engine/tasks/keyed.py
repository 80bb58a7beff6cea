"""What the kinds have in common whose keys are plain functions of the text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ttrl_engine.equivalence.reading import Reading
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.final_answer import show


class KeyedTask(ABC):
    """The part of `Task` that follows from `canonical`."""

    @abstractmethod
    def canonical(self, raw: str, problem: Problem, /) -> str:
        """The key of the answer's class; total."""

    def keys(self, raws: Sequence[str], problem: Problem, /) -> dict[str, Reading]:
        """The key of each; every text has one."""
        return {raw: Reading(self.canonical(raw, problem)) for raw in raws}

    def equivalent(self, a: str, b: str, problem: Problem, /) -> bool:
        """Whether both have the same key."""
        return a == b or self.canonical(a, problem) == self.canonical(b, problem)

    def display(self, raw: str) -> str:
        """The answer as written, on one line."""
        return show(raw)
