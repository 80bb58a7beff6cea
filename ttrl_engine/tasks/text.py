r"""Short texts: names, words, phrases. Compared without what does not make another answer.

Dropped are case, punctuation, the articles a, an, the, accents on Latin letters, width and ligature variants (Unicode
NFKC), and `\text{…}` around words; number words up to ninety-nine are numbers. Nothing is stemmed and no word order is
changed: "New York" and "York, New" are two answers.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import MAX_ANSWER_LENGTH, find_answer
from ttrl_engine.tasks.keyed import KeyedTask

_COMMAND = re.compile(
    r"\\(?:text|mbox|mathrm|mathbf|mathit|textbf|textit|textrm|emph)\s{0,3}(?=\{)|\\[,;:! ]|\\(?=[&%$#_])"
)
_ARTICLES: Final = frozenset(["a", "an", "the"])
_ONES: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_NUMBERS: Final = _ONES | _TENS
_DIGITS = re.compile(r"\d{1,18}")
# What apostrophes and full stops join stays one word: "O'Neill", "D.C.".
_JOINING = re.compile(r"(?<=\w)['’.](?=\w|$|\s)")
# General accents; the vowel signs of other scripts lie elsewhere and are letters of their own.
_ACCENT = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")


class TextTask(KeyedTask):
    """Implements `Task` for short texts."""

    kind: TaskKind = "text"
    default_suffix = "\nPlease reason step by step, and put your final answer, a few words, within \\boxed{}."

    def __init__(self, *, boxed_only: bool = False) -> None:
        self._boxed_only = boxed_only

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last boxed text, else a stated one."""
        return find_answer(text, truncated=truncated, boxed_only=self._boxed_only)

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """The words that count; text without any is its own class."""
        return text_key(raw)


def text_key(raw: str) -> str:
    """The key of a short text; total."""
    words = plain_words(raw[: 10 * MAX_ANSWER_LENGTH]) if len(raw) <= 10 * MAX_ANSWER_LENGTH else ""
    return f"words {words}" if words else "text " + " ".join(raw.split())


def plain_words(raw: str) -> str:
    """The words of a text in lower case, joined by spaces, without what does not make another answer."""
    text = _COMMAND.sub(" ", raw).replace("$", " ")
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    text = _JOINING.sub("", _ACCENT.sub("", text))
    text = unicodedata.normalize("NFKC", text)
    words = "".join(c if _counts(c) else "" if unicodedata.category(c) == "Cf" else " " for c in text).split()
    kept = [word for word in words if word not in _ARTICLES] or words
    return " ".join(_with_numbers(kept))


def _counts(character: str) -> bool:
    """Letters, digits and their marks count, and the signs that change a value or a name (C++, C#, 5 %)."""
    return character.isalnum() or unicodedata.category(character)[0] == "M" or character in "+#%&°€£"


def _with_numbers(words: list[str]) -> list[str]:
    """Number words as digits ("twenty one" is 21), padded digits without their zeros."""
    found: list[str] = []
    place = 0
    while place < len(words):
        value = _NUMBERS.get(words[place])
        following = _NUMBERS.get(words[place + 1], 0) if place + 1 < len(words) else 0
        if value is not None and value >= 20 and 1 <= following <= 9:
            value, place = value + following, place + 1
        digits = words[place] if _DIGITS.fullmatch(words[place]) else None
        found.append(str(value) if value is not None else str(int(digits)) if digits else words[place])
        place += 1
    return found
