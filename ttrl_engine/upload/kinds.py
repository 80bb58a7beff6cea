"""Which kind of answer a problem set asks for. Only a proposal: a person can choose otherwise before a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem, References
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.number import parse_number

_SAMPLE: Final = 500
_MOST: Final = 0.9
_LETTER = re.compile(r"\s{0,5}(?:\\text\{)?\(?([A-J])\)?\}?[.)]?\s{0,5}")
_INLINE_OPTIONS = re.compile(r"(?:^|\s)\(?A[).:]\s.{1,2000}?\s\(?B[).:]\s", re.DOTALL)


def guess_kind(problems: Sequence[Problem], references: References) -> TaskKind:
    """`choice` where options or letters say so, `number` where every reference is a plain number, else `math`.

    Looks at the first 500 problems; `math` reads numbers too, so it is the safe answer where nothing is known.
    """
    sample = problems[:_SAMPLE]
    if not sample:
        return "math"
    if sum(len(problem.choices) >= 2 for problem in sample) >= _MOST * len(sample):
        return "choice"
    known = [references[problem.id] for problem in sample if problem.id in references]
    if known:
        if sum(_LETTER.fullmatch(answer) is not None for answer in known) >= _MOST * len(known):
            return "choice"
        return "number" if all(_is_plain_number(answer) for answer in known) else "math"
    inline = sum(_INLINE_OPTIONS.search(problem.prompt[:4000]) is not None for problem in sample)
    return "choice" if inline >= _MOST * len(sample) else "math"


def unreadable_reference(kind: TaskKind, reference: str, problem: Problem) -> str | None:
    """Why a reference can never equal an answer of this kind; None where it can."""
    if kind == "number" and parse_number(reference) is None:
        return "is not one number"
    if kind == "choice" and get_task("choice").canonical(reference, problem).startswith("text "):
        return "is not one of the options"
    return None


def _is_plain_number(answer: str) -> bool:
    return parse_number(answer) is not None and "\\" not in answer and "=" not in answer and len(answer) <= 40
