"""Mathematical answers: the task, and the keys of many answers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.equivalence import Reading, Symbols, shared_symbols
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import latex, structure
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import find_answer, show

# A longer text is its own class: no reference is so long, and no rollout's answer can be (MAX_ANSWER_LENGTH).
_MAX_LENGTH: Final = 1000
_MAX_REMEMBERED: Final = 65_536


class MathTask:
    """Implements `Task` for mathematical answers. `symbols` reads what exact arithmetic does not settle."""

    kind: TaskKind = "math"
    default_suffix = "\nPlease reason step by step, and put your final answer within \\boxed{}."

    def __init__(self, *, boxed_only: bool = False, symbols: Symbols | None = None) -> None:
        self._boxed_only = boxed_only
        self._symbols = symbols

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last boxed answer, else a stated one."""
        return find_answer(text, truncated=truncated, boxed_only=self._boxed_only)

    def keys(self, raws: Sequence[str], _problem: Problem, /) -> dict[str, Reading]:
        """The key of each distinct answer; no key where a part took too much to read."""
        return math_readings(raws, self._symbols)

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """The value's key where the answer is understood, else its cleaned text."""
        return math_key(raw, self._symbols)

    def equivalent(self, a: str, b: str, _problem: Problem, /) -> bool:
        """Whether both have the same key."""
        if a == b:
            return True
        readings = math_readings((a, b), self._symbols)
        return readings[a].key is not None and readings[a].key == readings[b].key

    def display(self, raw: str) -> str:
        """The answer as written, on one line."""
        return show(raw)


def math_key(raw: str, symbols: Symbols | None = None) -> str:
    """The key of one mathematical answer. Total: one that cannot be read is a class of its own text."""
    return math_readings((raw,), symbols)[raw].key or f"unread {' '.join(raw.split())}"


def math_readings(raws: Sequence[str], symbols: Symbols | None = None) -> dict[str, Reading]:
    """The key of each distinct mathematical answer; all leaves beyond exact arithmetic are read in one go."""
    first = {raw: _without_symbols(raw) for raw in dict.fromkeys(raws)}
    wanted = dict.fromkeys(leaf for _, leaves in first.values() for leaf in leaves)
    known = (symbols or shared_symbols()).read(list(wanted)) if wanted else {}
    return {raw: _with_symbols(raw, known) if leaves else Reading(key) for raw, (key, leaves) in first.items()}


@lru_cache(maxsize=_MAX_REMEMBERED)
def _without_symbols(raw: str) -> tuple[str, tuple[str, ...]]:
    """The key, and the leaves that have to be read before it is one."""
    leaves = structure.Leaves({})
    return _key(raw, leaves), tuple(leaves.missing)


def _with_symbols(raw: str, known: Mapping[str, Reading]) -> Reading:
    try:
        return Reading(_key(raw, structure.Leaves(known)))
    except structure.UnreadableError as error:
        return Reading(None, error.reason)


def _key(raw: str, leaves: structure.Leaves) -> str:
    if len(raw) <= _MAX_LENGTH:
        text = latex.clean(raw.replace("\\boxed", "").replace("\\fbox", ""))
        if text:
            return structure.key_of(text, leaves)
    return "text " + " ".join(raw.split())
