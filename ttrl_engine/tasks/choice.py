"""Multiple choice: a letter, boxed or stated, or the text of an option. Never a stray article "a"."""

from __future__ import annotations

import re
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import latex
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import CUT, NO_ANSWER, find_boxed, find_stated, show
from ttrl_engine.tasks.math import math_key

LETTERS: Final = "ABCDEFGHIJ"
NOT_AN_OPTION = "not one of the options"

_MAX_LENGTH: Final = 1000
# The whole answer is a letter, or a letter set off from the option's text: "B", "(b)", "B)", "B. 12", "option B".
_WHOLE_LETTER = re.compile(
    r"(?:option|choice|answer)?\s{0,3}[(\[]?\s{0,3}([A-J])\s{0,3}[)\]]?\s{0,3}[.:]?", re.IGNORECASE
)
_LETTER_AND_TEXT = re.compile(r"(?:\(\s{0,3}([A-Ja-j])\s{0,3}\)|([A-J])\s{0,3}[).:])\s{0,3}(.{1,400})", re.DOTALL)
# Within a sentence a lower-case letter counts only in brackets; "A" and "I" are words unless something closes them.
_STATED_LETTER = re.compile(
    r"(?:(?:option|choice|letter)\s{1,3})?(?:"
    r"[(\[]\s{0,3}([A-Ja-j])\s{0,3}[)\]]|([B-HJ])(?![\w'’])|([AI])(?=\s{0,3}(?:[).:,;*$]|$)))"
)


class ChoiceTask:
    """Implements `Task` for multiple choice; options are lettered A to J."""

    kind: TaskKind = "choice"
    default_suffix = "\nPlease reason step by step, and put the letter of your final answer within \\boxed{}."

    def extract(self, text: str, problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The boxed letter or option text, else a stated one."""
        boxed = find_boxed(text, truncated=truncated)
        if boxed is not None:
            if boxed.raw is None or _letter(boxed.raw, problem) is not None:
                return boxed
            return Extraction(None, NOT_AN_OPTION)
        stated = find_stated(text)
        if stated is None:
            return Extraction(None, CUT if truncated else NO_ANSWER)
        match = _STATED_LETTER.match(stated)
        letter = next((group for group in match.groups() if group), None) if match else None
        if letter is not None and _is_offered(letter.upper(), problem):
            return Extraction(letter.upper())
        by_text = _letter_of_text(stated, problem)
        return Extraction(by_text) if by_text is not None else Extraction(None, NOT_AN_OPTION)

    def canonical(self, raw: str, problem: Problem, /) -> str:
        """The letter of the option meant; text that means none is its own class."""
        return _letter(raw, problem) or "text " + " ".join(raw.split()).casefold()

    def equivalent(self, a: str, b: str, problem: Problem, /) -> bool:
        """Whether both mean the same option."""
        return a == b or self.canonical(a, problem) == self.canonical(b, problem)

    def display(self, raw: str) -> str:
        """The answer as written, on one line."""
        return show(raw)


def _letter(raw: str, problem: Problem) -> str | None:
    """The letter an answer means when all of it is a letter, a lettered option, or an option's text."""
    if len(raw) > _MAX_LENGTH:
        return None
    text = latex.clean(raw)
    whole = _WHOLE_LETTER.fullmatch(text)
    if whole is not None and _is_offered(whole.group(1).upper(), problem):
        return whole.group(1).upper()
    by_text = _letter_of_text(raw, problem)
    if by_text is not None:
        return by_text
    lettered = _LETTER_AND_TEXT.fullmatch(text)
    if lettered is None:
        return None
    letter = (lettered.group(1) or lettered.group(2)).upper()
    if not _is_offered(letter, problem):
        return None
    # A letter beside the text of another option contradicts itself and means neither.
    meant = _letter_of_text(lettered.group(3), problem)
    return letter if meant in (None, letter) else None


def _is_offered(letter: str, problem: Problem) -> bool:
    return letter in (LETTERS[: len(problem.choices)] if problem.choices else LETTERS)


def _letter_of_text(raw: str, problem: Problem) -> str | None:
    """The letter of the one option whose text this is; None where no option, or more than one, is meant."""
    plain = " ".join(raw.split()).casefold().rstrip(".")
    options = list(zip(LETTERS, problem.choices, strict=False))
    same = [letter for letter, option in options if " ".join(option.split()).casefold().rstrip(".") == plain]
    if not same and options:
        key = math_key(raw)
        same = [letter for letter, option in options if math_key(option) == key]
    return same[0] if len(same) == 1 else None
