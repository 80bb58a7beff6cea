"""A person's regular expression, held to a time limit: in a backtracking engine some need longer than the universe."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Final

import regex

from ttrl_engine.errors import ConfigError

TIME_LIMIT_S: Final = 0.25
"""For one search of one text."""

# The end of a rollout, where answers stand.
MAX_TEXT: Final = 50_000
# Runs of what rollouts are made of: a pattern that is slow on one of these would be slow on every rollout.
_PROBES: Final = tuple(piece * 1000 + "!" for piece in ("a", "1", " ", "ab ", "1,", "\n", "(", "\\"))


class PatternTimeoutError(Exception):
    """A search did not end within the limit."""


@cache
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """The expression, ready to search. Raises ValueError with the reason where it is none."""
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as failure:
        raise ValueError(f"{pattern[:80]!r} is no regular expression: {failure}. Correct it.") from None


def require_fast(pattern: str) -> None:
    """Raises ConfigError where the expression is too slow on ordinary text.

    A clock decides, so this is asked once, before a pattern is taken; a config that was stored can always be read.
    """
    compiled = compile_pattern(pattern)
    for probe in _PROBES:
        try:
            _last(compiled, probe)
        except PatternTimeoutError:
            raise ConfigError(
                f"The pattern {pattern[:80]!r} takes longer than {TIME_LIMIT_S:g} s on a short text, so it would on an "
                "answer. Avoid a repetition within a repetition, such as (a+)+."
            ) from None


def last_match(pattern: str, text: str) -> str | None:
    """What the last match within the end of `text` holds: its first group where it has one, else all of it.

    None where nothing matches, "" where the group took no part. Raises PatternTimeoutError.
    """
    return _last(compile_pattern(pattern), text[-MAX_TEXT:])


def _last(compiled: regex.Pattern[str], text: str) -> str | None:
    try:
        found = deque(compiled.finditer(text, timeout=TIME_LIMIT_S), maxlen=1)
    except (TimeoutError, MemoryError, RecursionError):
        raise PatternTimeoutError from None
    if not found:
        return None
    return str(found[0].group(1 if compiled.groups else 0) or "")
