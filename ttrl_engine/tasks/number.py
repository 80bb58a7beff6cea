"""Answers that are one number: with or without unit, currency, percent sign and thousands separators.

Whole numbers are compared exactly. Others are rounded, from their exact rational value, to 6 significant digits but
never coarser than 0.01: a grid keeps sameness transitive, which a distance below 1e-6 would not.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import expression, latex, normal_form
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import find_answer, show

NOT_ONE_NUMBER = "not one number"

_MAX_LENGTH: Final = 400
_MAX_POWER_OF_TEN: Final = 300
_SIGNIFICANT_DIGITS: Final = 6
_COARSEST: Final = Fraction(1, 100)

_VARIABLE_IS = re.compile(
    r"^[A-Za-z](?:_\w)?\s{0,3}(?:=|\\approx)\s{0,3}|^(?:about|approximately|exactly|roughly|\\approx|=)\s{0,3}"
)
_RANGE = re.compile(r"\d\s{0,3}-\s{0,3}\d")
_SCIENTIFIC = re.compile(r"([-+]?\d{1,40}(?:\.\d{1,40})?)[eE]([-+]?\d{1,9})")
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_PLAIN = re.compile(r"[-+]?(?:\d{1,3}(?:[, _']\d{3})+|\d{1,200})?(?:\.\d{1,200})?")
_EUROPEAN = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+,\d{1,40}|\d{1,40},\d{1,2})")
_UNIT_AFTER = re.compile(r"^([-+]?[\d.,'_ ]{1,200}?(?:/\d{1,100})?)\s{0,3}[^\W\d_][^\d=+*<>\\]{0,60}(?:\^\{?\d\}?)?$")
_CURRENCY_BEFORE = re.compile(r"^([-+]?)\s{0,2}(?:USD|EUR|GBP|Rs\.?|¥|₹)\s{0,2}", re.IGNORECASE)


class NumberTask:
    """Implements `Task` for single numbers."""

    kind: TaskKind = "number"
    default_suffix = "\nPlease reason step by step, and put your final answer, one number, within \\boxed{}."

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last boxed number, else a stated one; text that is not one number is no answer."""
        found = find_answer(text, truncated=truncated)
        if found.raw is not None and parse_number(found.raw) is None:
            return Extraction(None, NOT_ONE_NUMBER)
        return found

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """The number on the grid as `n` or `n/d`; text that is not a number is its own class."""
        return number_key(raw)

    def equivalent(self, a: str, b: str, _problem: Problem, /) -> bool:
        """Whether both lie on the same point of the grid."""
        return a == b or number_key(a) == number_key(b)

    def display(self, raw: str) -> str:
        """The answer as written, on one line."""
        return show(raw)


def number_key(raw: str) -> str:
    """The key of a number; total."""
    value = parse_number(raw)
    return "text " + " ".join(raw.split()) if value is None else str(_on_grid(value))


def parse_number(raw: str) -> Fraction | None:
    """The exact value of a text that is one number, with whatever surrounds it; None for anything else.

    Percent signs are dropped (50% is 50), as in the MATH convention.
    """
    if len(raw) > _MAX_LENGTH:
        return None
    if _DIGITS.fullmatch(raw):  # by far the most common, and a set may hold 200,000 of them
        return Fraction(int(raw))
    text = _CURRENCY_BEFORE.sub(r"\1", _VARIABLE_IS.sub("", latex.clean(raw.replace("\\boxed", "")))).strip()
    for candidate in (text, _without_unit(text)):
        value = _value(candidate)
        if value is not None:
            return value
    return None


def _without_unit(text: str) -> str:
    match = _UNIT_AFTER.match(text)
    return match.group(1).strip(" ,") if match else latex.drop_unit(text)


def _value(text: str) -> Fraction | None:
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific is not None:
        power = int(scientific.group(2))
        return Fraction(scientific.group(1)) * Fraction(10) ** power if abs(power) <= _MAX_POWER_OF_TEN else None
    if any(character.isdigit() for character in text):
        if _PLAIN.fullmatch(text):
            return Fraction(re.sub(r"[, _']", "", text))
        if _EUROPEAN.fullmatch(text):
            return Fraction(text.replace(".", "").replace(",", "."))
    if _RANGE.search(text):  # "12-15" is a range, not minus three
        return None
    try:
        return normal_form.constant(expression.parse(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)))
    except normal_form.NotAnExpressionError:
        return None


def _on_grid(value: Fraction) -> Fraction:
    if value.denominator == 1:
        return value
    # 10 ** exponent <= |value|, by digit counts: no float, so no overflow at either end.
    exponent = len(str(abs(value.numerator))) - len(str(value.denominator))
    if abs(value) < Fraction(10) ** exponent:
        exponent -= 1
    step = min(Fraction(10) ** (exponent - _SIGNIFICANT_DIGITS + 1), _COARSEST)
    return round(value / step) * step
