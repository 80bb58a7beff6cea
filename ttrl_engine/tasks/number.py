"""Answers that are one number: with or without unit, currency, percent sign and thousands separators.

Numbers are the same that lie on the same point of a grid, for a grid keeps sameness transitive, which a distance would
not. Without a tolerance whole numbers are compared exactly, and others are rounded, from their exact rational value,
to 6 significant digits but never coarser than 0.01. With a tolerance t the points are the multiples of the largest
1, 2 or 5 times a power of ten within t of the number. Two numbers that are the same then differ by at most t of the
larger; round numbers lie in the middle of what is the same as them; two close numbers on both sides of the middle
between two points stay different.

Units are ignored unless one is given. Then a number without a unit counts as having it, another unit makes another
answer, and metric prefixes are converted exactly (see `units`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import expression, latex, normal_form, units
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import find_answer
from ttrl_engine.tasks.keyed import KeyedTask

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


class NumberTask(KeyedTask):
    """Implements `Task` for single numbers. `tolerance` is relative; see the module for both options."""

    kind: TaskKind = "number"

    def __init__(self, unit: str | None = None, tolerance: float | None = None, *, boxed_only: bool = False) -> None:
        self.unit = unit
        self._unit = units.read_unit(unit) if unit is not None else None
        # By its shortest decimal, as it was written: 0.01 is a hundredth and not the nearest binary fraction.
        self._tolerance = None if tolerance is None else Fraction(str(tolerance))
        self._boxed_only = boxed_only

    @property
    def default_suffix(self) -> str:
        """The instruction, with the unit."""
        what = "one number" if self.unit is None else f"one number in {self.unit}"
        return f"\nPlease reason step by step, and put your final answer, {what}, within \\boxed{{}}."

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The last boxed number, else a stated one; text that is not one number is no answer."""
        found = find_answer(text, truncated=truncated, boxed_only=self._boxed_only)
        if found.raw is not None and parse_number(found.raw) is None:
            return Extraction(None, NOT_ONE_NUMBER)
        return found

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """The number on the grid as `n` or `n/d`, with its unit where that is another one than was asked for; text
        that is not a number is its own class."""
        value = parse_number(raw)
        if value is None:
            return "text " + " ".join(raw.split())
        if self._unit is None:
            return str(_on_grid(value, self._tolerance))
        given = units.unit_of(raw)
        scale = Fraction(1) if given is None else given.scale_to(self._unit)
        if scale is None:
            return f"{_on_grid(value, self._tolerance)} {given}"
        return str(_on_grid(value * scale, self._tolerance))


def number_key(raw: str) -> str:
    """The key of a number without options; total."""
    value = parse_number(raw)
    return "text " + " ".join(raw.split()) if value is None else str(_on_grid(value, None))


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


def _on_grid(value: Fraction, tolerance: Fraction | None) -> Fraction:
    """The point of the grid nearest to the value."""
    if value == 0 or (tolerance is None and value.denominator == 1):
        return value
    if tolerance is None:
        step = min(_power_of_ten(abs(value)) / 10 ** (_SIGNIFICANT_DIGITS - 1), _COARSEST)
    else:
        widest = abs(value) * tolerance
        power = _power_of_ten(widest)
        step = max(factor * power for factor in (1, 2, 5) if factor * power <= widest)
    nearest: Fraction = round(value / step) * step
    return nearest


def _power_of_ten(value: Fraction) -> Fraction:
    """The largest power of ten that is at most a positive value; by digit counts, so that no float overflows."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    power = Fraction(10) ** exponent
    return power / 10 if value < power else power
