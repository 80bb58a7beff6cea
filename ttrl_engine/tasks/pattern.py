"""What a person's regular expression finds: the last match, its first group where it has one."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.patterns import TIME_LIMIT_S, PatternTimeoutError, last_match
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import CUT, MAX_ANSWER_LENGTH, TOO_LONG, is_blank
from ttrl_engine.tasks.keyed import KeyedTask

NO_MATCH = "the pattern matches nothing"
EMPTY_MATCH = "the pattern matches an empty text"
TOO_SLOW = f"the pattern took longer than {TIME_LIMIT_S:g} s"

_NUMBER = re.compile(r"[-+]?\d{1,200}(?:\.\d{1,200})?")
_LONGEST: Final = 1000


class PatternTask(KeyedTask):
    """Implements `Task` for a pattern, which must be one that `patterns.check_pattern` accepts."""

    kind: TaskKind = "pattern"
    default_suffix = "\nPlease reason step by step."

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last match; a search that takes too long finds nothing."""
        try:
            found = last_match(self._pattern, text)
        except PatternTimeoutError:
            return Extraction(None, TOO_SLOW)
        if found is None:
            return Extraction(None, CUT if truncated else NO_MATCH)
        if len(found) > MAX_ANSWER_LENGTH:
            return Extraction(None, TOO_LONG)
        return Extraction(None, EMPTY_MATCH) if is_blank(found) else Extraction(found.strip())

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """A plain decimal by its value, any other text without case and with single spaces."""
        text = " ".join(unicodedata.normalize("NFKC", raw[:_LONGEST]).split()) if len(raw) <= _LONGEST else raw
        return f"number {Fraction(text)}" if _NUMBER.fullmatch(text) else f"text {text.casefold()}"
