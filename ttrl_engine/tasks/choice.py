"""Multiple choice: a letter, boxed or stated, or the text of an option. Never a stray article "a".

The key is the letter of the option meant, in the order in which the problem lists them: whatever that order is, an
option's letter and its text are one answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.equivalence.reading import Reading
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import latex
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import CUT, NO_ANSWER, NO_BOX, find_boxed, find_stated
from ttrl_engine.tasks.keyed import KeyedTask
from ttrl_engine.tasks.math import math_key

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NOT_AN_OPTION = "not one of the options"

_MAX_LENGTH: Final = 1000
# Where the options stand in the prompt, letters up to J are taken on trust, later ones where the prompt lists them.
_TRUSTED: Final = 10
_IN_PROMPT = re.compile(r"(?:^|\s)\(?([A-Z])[).:]\s")
# The whole answer is a letter, or a letter set off from the option's text: "B", "(b)", "B)", "B. 12", "option B".
_WHOLE_LETTER = re.compile(
    r"(?:option|choice|answer)?\s{0,3}[(\[]?\s{0,3}([A-Z])\s{0,3}[)\]]?\s{0,3}[.:]?", re.IGNORECASE
)
_LETTER_AND_TEXT = re.compile(r"(?:\(\s{0,3}([A-Za-z])\s{0,3}\)|([A-Z])\s{0,3}[).:])\s{0,3}(.{1,400})", re.DOTALL)
# Within a sentence a lower-case letter counts only in brackets; "A" and "I" are words unless something closes them.
_STATED_LETTER = re.compile(
    r"(?:(?:option|choice|letter)\s{1,3})?(?:"
    r"[(\[]\s{0,3}([A-Za-z])\s{0,3}[)\]]|([B-HJ-Z])(?!['’\w]|-\w)|([AI])(?=\s{0,3}(?:[).:,;*$]|$))"
    r"|([b-hj-z])(?=\s{0,3}[).:]?$))"
)
# "dark blue (C)"
_LETTER_AFTER = re.compile(r".{1,400}\(\s{0,3}([A-Za-z])\s{0,3}\)", re.DOTALL)


class _ExactOnly:
    """Implements `Symbols` by leaving every text unread: an option's text needs no more than exact arithmetic."""

    def read(self, texts: Sequence[str], /) -> dict[str, Reading]:
        """No keys."""
        return {text: Reading(None, "not read") for text in texts}


_EXACT_ONLY: Final = _ExactOnly()


class ChoiceTask(KeyedTask):
    """Implements `Task` for multiple choice; options are lettered A to Z."""

    kind: TaskKind = "choice"
    default_suffix = "\nPlease reason step by step, and put the letter of your final answer within \\boxed{}."

    def __init__(self, *, boxed_only: bool = False) -> None:
        self._boxed_only = boxed_only

    def extract(self, text: str, problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The boxed letter or option text, else a stated one."""
        boxed = find_boxed(text, truncated=truncated)
        if boxed is not None:
            if boxed.raw is None or _letter(boxed.raw, problem) is not None:
                return boxed
            return Extraction(None, NOT_AN_OPTION)
        if self._boxed_only:
            return Extraction(None, CUT if truncated else NO_BOX)
        stated = find_stated(text)
        if stated is None:
            return Extraction(None, CUT if truncated else NO_ANSWER)
        letter = _stated_letter(stated, problem)
        return Extraction(letter) if letter is not None else Extraction(None, NOT_AN_OPTION)

    def canonical(self, raw: str, problem: Problem, /) -> str:
        """The letter of the option meant; text that means none is its own class."""
        return _letter(raw, problem) or "text " + " ".join(raw.split()).casefold()


def _stated_letter(stated: str, problem: Problem) -> str | None:
    """The letter meant by what follows "the answer is"."""
    match = _STATED_LETTER.match(stated)
    letter = next((group for group in match.groups() if group), None) if match else None
    if letter is not None and _is_offered(letter.upper(), problem):
        return letter.upper()
    by_text = _letter_of_text(stated, problem)
    if by_text is not None:
        return by_text
    after = _LETTER_AFTER.fullmatch(stated)
    return after.group(1).upper() if after is not None and _is_offered(after.group(1).upper(), problem) else None


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
    if problem.choices:
        return letter in LETTERS[: len(problem.choices)]
    place = LETTERS.find(letter)
    return 0 <= place < _TRUSTED or (
        place >= 0 and set(_IN_PROMPT.findall(problem.prompt)).issuperset(LETTERS[: place + 1])
    )


def _letter_of_text(raw: str, problem: Problem) -> str | None:
    """The letter of the one option whose text this is; None where no option, or more than one, is meant."""
    plain = " ".join(raw.split()).casefold().rstrip(".")
    options = list(zip(LETTERS, problem.choices, strict=False))
    same = [letter for letter, option in options if " ".join(option.split()).casefold().rstrip(".") == plain]
    if not same and options:
        key = math_key(raw, _EXACT_ONLY)
        same = [letter for letter, option in options if math_key(option, _EXACT_ONLY) == key]
    return same[0] if len(same) == 1 else None
