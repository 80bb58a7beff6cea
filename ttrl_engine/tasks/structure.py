r"""The key of a cleaned answer, built from the outside in: lists, sets, tuples, intervals, matrices, relations.

What remains is a leaf: exact arithmetic settles it here, or `Leaves` knows its reading, or it is compared as text.
What a MATH reference drops is dropped: units, `x =` before a value, and dollar, percent and degree signs (50\% is 50).
An inequality in one variable is its interval, so `x > 3` and `(3, \infty)` are one answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ttrl_engine.equivalence import grammar, guard
from ttrl_engine.equivalence.names import is_symbolic
from ttrl_engine.equivalence.reading import Reading, split_top, squeezed, text_key
from ttrl_engine.tasks import expression, latex, normal_form

_MAX_NESTING: Final = 6
# \pm in n places stands for 2^n values.
_MAX_PLUS_MINUS: Final = 3
_PLUS_MINUS: Final = "\\pm"
_REALS: Final = "(-\\infty; \\infty)"
# The key of a leaf that is still to be read.
_PENDING: Final = "?"

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|sim|equiv)(?![A-Za-z])|<=|>=|!=|[=<>]")
_MATRIX = re.compile(r"\\begin\{([pbBvV]?(?:matrix|smallmatrix)|array)\}(?:\{[^{}]{0,20}\})?(.*)\\end\{\1\}", re.DOTALL)
_VARIABLE = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+)(?:_(?:\w|\{\w{1,10}\}))?(?:\([A-Za-z](?:,\s?[A-Za-z])*\))?'?")
_LIST_WORD = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_OR = re.compile(r"\s{0,3},?\s{0,3}(?<![A-Za-z\\])or(?![A-Za-z])\s{0,3}")
_LONG_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
_SAME: Final = {"<=": "\\le", ">=": "\\ge", "!=": "\\ne"}
_FLIPPED: Final = {">": "<", "\\ge": "\\le", "<": ">", "\\le": "\\ge"}
_NO_CONSTANT: Final = ("f(", "text ", "words ", "0 = ", "{", "(", "[", "matrix ", "determinant ", "union ", "not ")
_INTERVAL = re.compile(r"[(\[][^;]*; [^;]*[)\]]")


class UnreadableError(Exception):
    """A leaf took too much to read; `reason` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Leaves:
    """Readings of the leaves beyond exact arithmetic, and the ones `missing` among them."""

    def __init__(self, known: Mapping[str, Reading]) -> None:
        self._known = known
        self.missing: dict[str, None] = {}

    def key_of(self, text: str) -> str:
        """The key of a leaf. Raises UnreadableError."""
        if guard.too_much(text) is not None:
            return text_key(text)
        reading = self._known.get(squeezed(text))
        if reading is None:
            self.missing[squeezed(text)] = None
            return _PENDING
        if reading.key is None:
            raise UnreadableError(reading.reason or "")
        return reading.key


def key_of(text: str, leaves: Leaves, nesting: int = 0) -> str:
    """The key of a text that is cleaned of layout. Raises UnreadableError where a leaf could not be read."""
    text = latex.strip_ends(text)
    if nesting > _MAX_NESTING:
        return text_key(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        return _matrix_key(matrix.group(1), matrix.group(2), leaves, nesting)
    words = latex.words_of(text)
    if words is not None and not _LIST_WORD.search(words):
        return f"words {words}" if words not in ("all real numbers", "all reals", "real numbers") else _REALS
    alternatives = _OR.split(text)
    if len(alternatives) > 1 and all(_RELATION.search(part) for part in alternatives):
        keys = [key_of(part, leaves, nesting + 1) for part in alternatives]
        if all(_INTERVAL.fullmatch(key) for key in keys):
            return _union_key(keys)
    parts = _listed(text)
    if len(parts) > 1:
        return _set_key([key_of(part, leaves, nesting + 1) for part in parts])
    return _relation_key(parts[0], leaves, nesting)


def _listed(text: str) -> list[str]:
    """The members of a bare list `1, -2`, `3 and 5`; a number with thousands commas is one member."""
    if len(_LONG_WORD.findall(_LIST_WORD.sub(" ", text))) > 1:
        return [text]
    if text[:1] not in "([" and "\\{" not in text:
        text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    text = _LIST_WORD.sub(",", text)
    return [part for part in (part.strip() for part in split_top(text)) if part] or [text]


def _relation_key(text: str, leaves: Leaves, nesting: int) -> str:
    relations = list(_RELATION.finditer(text))
    if not relations or ("{" in text and all("{" in text[: each.start()] for each in relations) and text[0] == "\\"):
        # No relation, or one within a command's braces, as in \sum_{k=1}^n.
        return _bracket_key(latex.drop_unit(text), leaves, nesting)
    signs = [_SAME.get(each.group(), each.group()) for each in relations]
    ends = [0, *(each.end() for each in relations)]
    starts = [*(each.start() for each in relations), len(text)]
    sides = [text[end:start].strip() for end, start in zip(ends, starts, strict=True)]
    sides[-1] = latex.drop_unit(sides[-1])
    if not all(sides):
        return text_key(text)
    if len(signs) > 1:
        return _chain_key(sides, signs, leaves, nesting) or text_key(text)
    (sign,), (left, right) = signs, sides
    if sign in ("=", "\\in", "\\approx"):
        if _VARIABLE.fullmatch(left) and not (sign == "=" and _VARIABLE.fullmatch(right) and len(right) == 1):
            return key_of(right, leaves, nesting + 1)
        if sign == "=" and _VARIABLE.fullmatch(right):
            return key_of(left, leaves, nesting + 1)
    if sign == "=":
        return _equation_key(left, right, leaves)
    return _inequality_key(left, sign, right, leaves, nesting)


def _chain_key(sides: list[str], signs: list[str], leaves: Leaves, nesting: int) -> str | None:
    """`x = 1/2 = 0.5` is its one value, `-1 \\le x < 2` its interval; None for other chains."""
    if all(sign == "=" for sign in signs):
        values = sides[1:] if _VARIABLE.fullmatch(sides[0]) else sides
        keys = {key_of(side, leaves, nesting + 1) for side in values}
        return keys.pop() if len(keys) == 1 else None
    if len(sides) != 3 or not _VARIABLE.fullmatch(sides[1]):
        return None
    first, last = (key_of(side, leaves, nesting + 1) for side in (sides[0], sides[2]))
    if not (_is_constant(first) and _is_constant(last)):
        return None
    if all(sign in (">", "\\ge") for sign in signs):
        first, last, signs = last, first, [_FLIPPED[sign] for sign in reversed(signs)]
    if not all(sign in ("<", "\\le") for sign in signs):
        return None
    opening, closing = "[" if signs[0] == "\\le" else "(", "]" if signs[1] == "\\le" else ")"
    return f"{opening}{first}; {last}{closing}"


def _inequality_key(left: str, sign: str, right: str, leaves: Leaves, nesting: int) -> str:
    keys = [key_of(side, leaves, nesting + 1) for side in (left, right)]
    if sign in (">", "\\ge"):
        left, right, sign, keys = right, left, _FLIPPED[sign], keys[::-1]
    if _VARIABLE.fullmatch(left) and _is_constant(keys[1]):
        interval = _half_line(sign, keys[1], below=True)
    elif _VARIABLE.fullmatch(right) and _is_constant(keys[0]):
        interval = _half_line(sign, keys[0], below=False)
    else:
        interval = None
    return interval or f"{keys[0]} {sign} {keys[1]}"


def _half_line(sign: str, bound: str, *, below: bool) -> str | None:
    """The numbers on one side of a bound, or all but it; None for a relation that is no order."""
    if sign == "\\ne":
        return _union_key([f"(-\\infty; {bound})", f"({bound}; \\infty)"])
    if sign not in ("<", "\\le"):
        return None
    closed = sign == "\\le"
    if below:
        return f"(-\\infty; {bound}{']' if closed else ')'}"
    return f"{'[' if closed else '('}{bound}; \\infty)"


def _is_constant(key: str) -> bool:
    return not key.startswith(_NO_CONSTANT)


def _equation_key(left: str, right: str, leaves: Leaves) -> str:
    """Two sides as one expression that is 0, up to a factor, so that their order and scale do not matter."""
    try:
        zero = normal_form.difference(expression.parse(left), expression.parse(right))
        return normal_form.zero_key_of(zero)
    except (grammar.NotAnExpressionError, ArithmeticError):
        pass
    try:
        grammar.parse(left), grammar.parse(right)
    except grammar.NotAnExpressionError:
        return " = ".join(sorted((text_key(left), text_key(right))))
    return leaves.key_of(f"{left}={right}")


def _bracket_key(text: str, leaves: Leaves, nesting: int) -> str:
    union = _split_union(text)
    if len(union) > 1:
        return _union_key([key_of(part, leaves, nesting + 1) for part in union])
    if text.startswith("\\{") and text.endswith("\\}"):
        inside = text[2:-2].strip()
        members = [key_of(part, leaves, nesting + 1) for part in split_top(inside) if part.strip()]
        return _set_key(members) if members else "text \\emptyset"
    opening, closing = text[:1], text[-1:]
    if opening and opening in "([" and closing and closing in ")]":
        parts = split_top(text[1:-1])
        if len(parts) > 1:
            return f"{opening}{'; '.join(key_of(part, leaves, nesting + 1) for part in parts)}{closing}"
    return _value_key(text, leaves)


def _split_union(text: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"\\cup(?![A-Za-z])|(?<=[)\]])\s{0,3}U\s{0,3}(?=[(\[])", text)]
    balanced = all(part.count("(") + part.count("[") == part.count(")") + part.count("]") for part in parts)
    return parts if balanced and all(parts) else [text]


def _union_key(keys: list[str]) -> str:
    distinct = sorted({inner for key in keys for inner in key.removeprefix("union ").split(" \\cup ")})
    return distinct[0] if len(distinct) == 1 else "union " + " \\cup ".join(distinct)


def _value_key(text: str, leaves: Leaves) -> str:
    signs = text.count(_PLUS_MINUS)
    if 0 < signs <= _MAX_PLUS_MINUS:
        halves = (text.replace(_PLUS_MINUS, "+", 1), text.replace(_PLUS_MINUS, "-", 1))
        return _set_key([key for half in halves for key in _members(_value_key(half, leaves))])
    if text in ("\\infty", "+\\infty", "-\\infty"):
        return text.removeprefix("+")
    if squeezed(text) in ("\\mathbb{R}", "\\mathbb R", "\\R"):
        return _REALS
    if len(_LONG_WORD.findall(text)) > 1:  # a sentence, not a product of letters
        return text_key(text.casefold())
    try:
        return normal_form.key_of(expression.parse(text))
    except (grammar.NotAnExpressionError, ArithmeticError):
        return leaves.key_of(text) if _is_computable(text) else text_key(text)


def _is_computable(text: str) -> bool:
    try:
        grammar.parse(text)
    except grammar.NotAnExpressionError:
        return is_symbolic(text)
    return True


def _set_key(members: list[str]) -> str:
    distinct = sorted({inner for member in members for inner in _members(member)})
    return distinct[0] if len(distinct) == 1 else "{" + " | ".join(distinct) + "}"


def _members(key: str) -> list[str]:
    """The members of a set's key, one for any other key: `1 \\pm 2` within a list adds two members to it."""
    return key[1:-1].split(" | ") if key.startswith("{") and key.endswith("}") else [key]


def _matrix_key(environment: str, body: str, leaves: Leaves, nesting: int) -> str:
    # Round and square brackets are two ways to set the same matrix; bars make it a determinant.
    name = "determinant" if environment[:1] in "vV" else "matrix"
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]{0,10}\])?|\\cr(?![A-Za-z])", body) if row.strip()]
    cells = [[key_of(cell.replace("\\hline", ""), leaves, nesting + 1) for cell in row.split("&")] for row in rows]
    return f"{name} " + " / ".join(" & ".join(row) for row in cells)
