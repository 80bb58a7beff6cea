"""Two texts side by side with the words that differ marked, and the final answer of each: escaped HTML."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from app.components import escape

MOST_WORDS = 2000
"""Longer texts are shown without marks: the time to compare grows with the square of their length."""

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def marked(one: str, other: str, answers: tuple[str | None, str | None] = (None, None)) -> tuple[str, str]:
    """Both texts as HTML. Words that the other lacks stand in `<del>` (in the first) or `<ins>` (in the second); the
    last place where a text says its answer, as in `answers`, is in `<b class="final">`."""
    words, others = _WORD.findall(one), _WORD.findall(other)
    if max(len(words), len(others)) > MOST_WORDS:
        first, second = [(False, 0, len(words))], [(False, 0, len(others))]
    else:
        blocks = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
        first = [(kind != "equal", start, stop) for kind, start, stop, _, _ in blocks]
        second = [(kind != "equal", start, stop) for kind, _, _, start, stop in blocks]
    return _html(words, first, "del", answers[0]), _html(others, second, "ins", answers[1])


def _html(words: list[str], blocks: list[tuple[bool, int, int]], tag: str, answer: str | None) -> str:
    final = _place_of("".join(words), answer)
    parts = []
    position = 0
    for changed, start, stop in blocks:
        text = "".join(words[start:stop])
        if text:
            shown = _with_final(text, position, final)
            parts.append(f"<{tag}>{shown}</{tag}>" if changed and text.strip() else shown)
        position += len(text)
    return "".join(parts)


def _place_of(text: str, answer: str | None) -> tuple[int, int]:
    """(start, stop) of the answer's last mention that is no part of a longer word or number; (0, 0) without one."""
    if not answer or not answer.strip():
        return 0, 0
    found = list(re.finditer(rf"(?<!\w)(?<!\d[.,]){re.escape(answer.strip())}(?!\w|[.,]\d)", text))
    return found[-1].span() if found else (0, 0)


def _with_final(text: str, position: int, final: tuple[int, int]) -> str:
    """Escaped text that begins at `position`; what of it lies in `final` is marked."""
    start = min(len(text), max(0, final[0] - position))
    stop = min(len(text), max(0, final[1] - position))
    if start >= stop:
        return escape(text)
    return f'{escape(text[:start])}<b class="final">{escape(text[start:stop])}</b>{escape(text[stop:])}'
