r"""Mathematical answers: numbers, expressions, tuples, intervals, sets, matrices, equations, words.

An answer's key is built from the outside in: layout goes (`latex`), structure is split (lists, brackets, unions,
matrices, relations), and what remains is brought to an exact normal form (`expression`) or, failing that, kept as text.
What a MATH reference drops is dropped: units, `x =` before a value, and dollar, percent and degree signs (50\% is 50).
"""

from __future__ import annotations

import re
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import expression, latex, normal_form
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import find_answer, show

# A longer text is its own class: no reference is so long, and no rollout's answer can be (MAX_ANSWER_LENGTH).
_MAX_LENGTH: Final = 1000
_MAX_NESTING: Final = 6
# \pm in n places stands for 2^n values.
_MAX_PLUS_MINUS: Final = 3

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|sim|equiv)(?![A-Za-z])|<=|>=|[=<>]")
_MATRIX = re.compile(r"\\begin\{([pbBvV]?(?:matrix|smallmatrix)|array)\}(?:\{[^{}]{0,20}\})?(.*)\\end\{\1\}", re.DOTALL)
_VARIABLE = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+)(?:_(?:\w|\{\w{1,10}\}))?(?:\([A-Za-z](?:,\s?[A-Za-z])*\))?'?")
_LIST_WORD = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_FLIPPED: Final = {">": "<", ">=": "\\le", "\\ge": "\\le"}
_SAME: Final = {"<=": "\\le"}
# Spaces between two letters or digits keep them apart; all others are layout.
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_PLUS_MINUS = "\\pm"


class MathTask:
    """Implements `Task` for mathematical answers."""

    kind: TaskKind = "math"
    default_suffix = "\nPlease reason step by step, and put your final answer within \\boxed{}."

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last boxed answer, else a stated one."""
        return find_answer(text, truncated=truncated)

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """Exact normal form where the answer is understood, else its cleaned text."""
        return math_key(raw)

    def equivalent(self, a: str, b: str, _problem: Problem, /) -> bool:
        """Whether both have the same key."""
        return a == b or math_key(a) == math_key(b)

    def display(self, raw: str) -> str:
        """The answer as written, on one line."""
        return show(raw)


def math_key(raw: str) -> str:
    """The key of a mathematical answer. Total: every string has one."""
    if len(raw) > _MAX_LENGTH:
        return "text " + " ".join(raw.split())
    text = latex.clean(_unboxed(raw))
    return _key(text, 0) if text else "text " + " ".join(raw.split())


def _unboxed(raw: str) -> str:
    return raw.replace("\\boxed", "").replace("\\fbox", "")


def _key(text: str, nesting: int) -> str:
    text = latex.strip_ends(text)
    if nesting > _MAX_NESTING:
        return _as_text(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        return _matrix_key(matrix.group(1), matrix.group(2), nesting)
    words = latex.words_of(text)
    if words is not None and not _LIST_WORD.search(words):
        return f"words {words}"
    parts = _listed(text)
    if len(parts) > 1:
        return _set_key([_key(part, nesting + 1) for part in parts])
    return _relation_key(parts[0], nesting)


def _listed(text: str) -> list[str]:
    """The members of a bare list `1, -2`, `3 and 5`; a number with thousands commas is one member."""
    merged = (
        text
        if text[:1] in "([" or "\\{" in text
        else _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    )
    merged = _LIST_WORD.sub(",", merged) if any(character.isdigit() for character in merged) else merged
    return [part for part in (part.strip() for part in latex.split_top(merged)) if part] or [text]


def _relation_key(text: str, nesting: int) -> str:
    relations = list(_RELATION.finditer(text))
    if not relations:
        return _bracket_key(latex.drop_unit(text), nesting)
    if len(relations) > 1:
        return _as_text(text)
    sign = relations[0].group()
    left, right = text[: relations[0].start()].strip(), latex.drop_unit(text[relations[0].end() :].strip())
    if not left or not right:
        return _as_text(text)
    if sign in ("=", "\\in", "\\approx"):
        if _VARIABLE.fullmatch(left) and not (sign == "=" and _VARIABLE.fullmatch(right) and len(right) == 1):
            return _key(right, nesting + 1)
        if sign == "=" and _VARIABLE.fullmatch(right):
            return _key(left, nesting + 1)
    if sign == "=":
        return _equation_key(left, right)
    if sign in _FLIPPED:
        sign, left, right = _FLIPPED[sign], right, left
    return f"{_key(left, nesting + 1)} {_SAME.get(sign, sign)} {_key(right, nesting + 1)}"


def _equation_key(left: str, right: str) -> str:
    """Two sides as one normal form that is 0, scaled to a leading 1, so that the order of the sides does not matter."""
    try:
        zero = normal_form.difference(expression.parse(left), expression.parse(right))
        if not zero:
            return "0 = 0"
        leading = zero[max(zero)]
        return "0 = " + normal_form.render({term: value / leading for term, value in zero.items()})
    except normal_form.NotAnExpressionError:
        return " = ".join(sorted((_as_text(left), _as_text(right))))


def _bracket_key(text: str, nesting: int) -> str:
    union = _split_union(text)
    if len(union) > 1:
        return "union " + " ".join(sorted({_key(part, nesting + 1) for part in union}))
    if text.startswith("\\{") and text.endswith("\\}"):
        inside = text[2:-2].strip()
        members = [_key(part, nesting + 1) for part in latex.split_top(inside) if part.strip()]
        return _set_key(members) if members else "text \\emptyset"
    opening, closing = text[:1], text[-1:]
    if opening and opening in "([" and closing and closing in ")]":
        parts = latex.split_top(text[1:-1])
        if len(parts) > 1:
            return f"{opening}{'; '.join(_key(part, nesting + 1) for part in parts)}{closing}"
    return _value_key(text, nesting)


def _split_union(text: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"\\cup(?![A-Za-z])|(?<=[)\]])\s{0,3}U\s{0,3}(?=[(\[])", text)]
    balanced = all(part.count("(") + part.count("[") == part.count(")") + part.count("]") for part in parts)
    return parts if balanced and all(parts) else [text]


def _value_key(text: str, nesting: int) -> str:
    signs = text.count(_PLUS_MINUS)
    if 0 < signs <= _MAX_PLUS_MINUS:
        halves = (text.replace(_PLUS_MINUS, "+", 1), text.replace(_PLUS_MINUS, "-", 1))
        return _set_key([key for half in halves for key in _members(_value_key(half, nesting))])
    try:
        return normal_form.render(expression.parse(text))
    except normal_form.NotAnExpressionError:
        return _as_text(text)


def _set_key(members: list[str]) -> str:
    distinct = sorted({inner for member in members for inner in _members(member)})
    return distinct[0] if len(distinct) == 1 else "{" + " | ".join(distinct) + "}"


def _members(key: str) -> list[str]:
    """The members of a set's key, one for any other key: `1 \\pm 2` within a list adds two members to it."""
    return key[1:-1].split(" | ") if key.startswith("{") and key.endswith("}") else [key]


def _matrix_key(environment: str, body: str, nesting: int) -> str:
    # Round and square brackets are two ways to set the same matrix; bars make it a determinant.
    name = "determinant" if environment[:1] in "vV" else "matrix"
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]{0,10}\])?|\\cr(?![A-Za-z])", body) if row.strip()]
    cells = [[_key(cell.replace("\\hline", ""), nesting + 1) for cell in row.split("&")] for row in rows]
    return f"{name} " + " / ".join(" & ".join(row) for row in cells)


def _as_text(text: str) -> str:
    return "text " + _LOOSE_SPACE.sub("", " ".join(text.split()))
