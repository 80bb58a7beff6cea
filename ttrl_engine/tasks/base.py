"""What every kind of answer must offer: find the answer in a rollout, and say which answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ttrl_engine.config import TaskKind
from ttrl_engine.equivalence.reading import Reading
from ttrl_engine.problems import Problem


@dataclass(frozen=True)
class Extraction:
    """The answer a rollout gave: `raw` as written, or None and the `reason` why none could be read."""

    raw: str | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.raw is None) == (self.reason is None):
            raise ValueError("An extraction has either an answer or a reason, never both or neither.")


class Task(Protocol):
    """One kind of answer. Arguments go by position.

    All methods are pure, linear in the length of the text, and never raise on any string.
    """

    @property
    def kind(self) -> TaskKind:
        """The name in the config."""

    @property
    def default_suffix(self) -> str:
        """The instruction put after the problem where the config sets none and the model needs one."""

    def extract(self, text: str, problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The final answer of a rollout. `truncated` (cut at the length limit) only improves the reason."""

    def keys(self, raws: Sequence[str], problem: Problem, /) -> dict[str, Reading]:
        """The key of each distinct raw answer: equal keys mean the same answer.

        Answers of one problem are read together, since some kinds read in child processes. A reading without a key
        is an answer that could not be read within the limits; it counts as unparsed, with its reason.
        """

    def canonical(self, raw: str, problem: Problem, /) -> str:
        """The key that `keys` gives. Total: an answer that cannot be read is a class of its own text."""

    def equivalent(self, a: str, b: str, problem: Problem, /) -> bool:
        """Whether two raw answers are the same. An equivalence relation, and never finer than equal keys."""

    def display(self, raw: str) -> str:
        """The answer as shown to a person: one line, bounded, still to be escaped for HTML."""
