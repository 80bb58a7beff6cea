"""What reading a text gives, and what can read many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Reading:
    """The `key` of an answer's class, or None and the `reason` why the text has none: it was too much to read."""

    key: str | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.key is None) == (self.reason is None):
            raise ValueError("A reading has either a key or a reason, never both or neither.")


class Symbols(Protocol):
    """Reads mathematical texts that need more than exact arithmetic."""

    def read(self, texts: Sequence[str], /) -> dict[str, Reading]:
        """One reading per distinct text. Never raises on any text, and takes bounded time per text."""


# Spaces between two letters or digits keep them apart; all others are layout.
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")


def squeezed(text: str) -> str:
    """A text without the spaces that are only layout."""
    return _LOOSE_SPACE.sub("", " ".join(text.split()))


def text_key(text: str) -> str:
    """The key of what is not computed: equal texts are one answer, spaces aside."""
    return f"text {squeezed(text)}"


def split_top(text: str, separators: str = ",;") -> list[str]:
    """The parts between separators that lie outside all brackets; at least one part."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            following = text[position + 1 : position + 2]
            depth += {"{": 1, "}": -1}.get(following, 0)
            position += 2
            continue
        if character in "({[":
            depth += 1
        elif character in ")}]":
            depth -= 1
        elif depth <= 0 and character in separators:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts
