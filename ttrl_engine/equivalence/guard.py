r"""What is too much to compute: looked for in the text, before anything is parsed.

Over budget is no error: such an answer is compared as text.
"""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 200
MAX_BRACE_DEPTH: Final = 20
MAX_EXPONENT_DIGITS: Final = 4
MAX_OPERAND: Final = 10_000
MAX_CALLS: Final = 40

_NUMBER_BEFORE_FACTORIAL = re.compile(r"(\d+)[\s})\]]*!")
_LONG_EXPONENT = re.compile(r"\^[\s{(+-]*(\d+)")
_BINOMIAL = re.compile(r"\\(?:binom|choose)")
_NUMBER = re.compile(r"\d+")


def too_much(text: str) -> str | None:
    """Why a text is not worth computing, or None."""
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    if text.count("\\") + text.count("^") > MAX_CALLS:
        return f"more than {MAX_CALLS} operations"
    if _depth(text) > MAX_BRACE_DEPTH:
        return f"brackets nested deeper than {MAX_BRACE_DEPTH}"
    if _is_tower(text):
        return "a tower of exponents"
    if any(len(match.group(1)) > MAX_EXPONENT_DIGITS for match in _LONG_EXPONENT.finditer(text)):
        return f"an exponent of more than {MAX_EXPONENT_DIGITS} digits"
    if any(int(match.group(1)) > MAX_OPERAND for match in _NUMBER_BEFORE_FACTORIAL.finditer(text)):
        return f"the factorial of a number above {MAX_OPERAND}"
    if re.search(r"![\s})\]]*!", text):
        return "a factorial of a factorial"
    if _BINOMIAL.search(text) and any(int(number) > MAX_OPERAND for number in _NUMBER.findall(text)):
        return f"a binomial of a number above {MAX_OPERAND}"
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest


def _is_tower(text: str) -> bool:
    """Whether an exponent holds an exponent: within its brackets, or right behind it."""
    for match in re.finditer(r"\^\s*", text):
        end = _group_end(text, match.end())
        if "^" in text[match.end() : end] or re.match(r"\s*\^", text[end:]):
            return True
    return False


def _group_end(text: str, start: int) -> int:
    if text[start : start + 1] not in ("{", "("):
        return start + 1
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return len(text)
