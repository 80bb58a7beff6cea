"""The key of a value: exact where it is rational, else its leading digits; of a function, its values at fixed points.

Two expressions that are equal, whichever way they are written, have equal values, so equal keys. Different ones would
have to agree in 25 digits at points they cannot know. Whoever evaluates, with whatever arithmetic, gets the same key:
this module is the one place where values become text.

A function's points have one positive number per variable, and one point per variable where just that one is negative.
There only real values count: x sqrt(x) and sqrt(x^3) are one answer, x and |x| are two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Final, TypeAlias

DIGITS: Final = 25
WORKING_DIGITS: Final = 60
MAX_NAMES: Final = 6

Value: TypeAlias = tuple[Decimal, Decimal]
"""Real and imaginary part, right to at least 40 significant digits of the larger one."""
Point: TypeAlias = Mapping[str, Decimal]
"""A number for each name."""

# Operators and abs() round to 28 digits: only the methods of this context and copy_abs, copy_negate are used.
WORKING: Final = Context(prec=WORKING_DIGITS, rounding=ROUND_HALF_EVEN, Emax=10**9, Emin=-(10**9))
_ROUNDED: Final = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emax=10**9, Emin=-(10**9))
# A part so much smaller than the whole is the error of its evaluation, not a number.
_NEGLIGIBLE: Final = Decimal("1e-38")
_ZERO: Final = Decimal(0)
_MAX_SHOWN: Final = 120


def exact_key(real: Fraction, imaginary: Fraction = Fraction(0)) -> str:
    """The key of a rational or Gaussian rational number: `5`, `-3/2`, `6-5i`."""
    return _parts_key(_short(str(real)), _short(str(imaginary)))


def value_key(value: Value) -> str:
    """The key of a constant: its exact parts where they are rational, 25 digits where they are not."""
    real, imaginary = _without_negligible(value)
    return _parts_key(_number_text(real), _number_text(imaginary))


def function_key(names: Sequence[str], evaluate: Callable[[Point], Value]) -> str:
    """The key of an expression in the variables named. `evaluate` is called once per point; its errors pass through."""
    base, relevant, values = _sampled(names, evaluate)
    if not relevant:
        return value_key(base)
    return f"f({', '.join(relevant)}) {_digest([_value_text(value) for value in values])}"


def zero_key(names: Sequence[str], evaluate: Callable[[Point], Value]) -> str:
    """The key of the equation `expression = 0`, the same for every nonzero multiple of the expression."""
    base, relevant, values = _sampled(names, evaluate)
    if not relevant:
        return "0 = 0" if not any(_without_negligible(base)) else "0 = 1"
    unit = next((value for value in values[:2] if any(value)), None)
    if unit is None:
        return f"0 = f({', '.join(relevant)}) {_digest([_value_text(value) for value in values])}"
    scaled = [value if value[0].is_nan() else _divided(value, unit) for value in values]
    return f"0 = f({', '.join(relevant)}) {_digest([_value_text(value) for value in scaled])}"


def coordinate(name: str, number: int) -> Decimal:
    """A number between 1/2 and 5/2 that only this name and number decide; no value of interest lies there."""
    digest = hashlib.blake2b(f"{number} {name}".encode(), digest_size=32).digest()
    return WORKING.add(Decimal("0.5"), WORKING.divide(Decimal(2 * int.from_bytes(digest, "big")), Decimal(1 << 256)))


_NOT_REAL: Final[Value] = (Decimal("NaN"), Decimal(0))


def _sampled(names: Sequence[str], evaluate: Callable[[Point], Value]) -> tuple[Value, list[str], list[Value]]:
    """The value at the base point, the names that matter, and the values at all points of these."""
    names = sorted(set(names))
    first = {name: coordinate(name, 0) for name in names}
    second = {name: coordinate(name, 1) for name in names}
    base = _without_negligible(evaluate(first))
    relevant, moved = [], []
    for name in names:
        value = _without_negligible(evaluate(first | {name: second[name].copy_negate()}))
        if _value_text(value) != _value_text(base):
            relevant.append(name)
            moved.append(value if value[1] == 0 else _NOT_REAL)
    return base, relevant, [base, _without_negligible(evaluate(second)), *moved] if relevant else []


def _without_negligible(value: Value) -> Value:
    real, imaginary = value
    size = max(real.copy_abs(), imaginary.copy_abs())
    least = WORKING.multiply(size, _NEGLIGIBLE)
    return (real if real.copy_abs() > least else _ZERO, imaginary if imaginary.copy_abs() > least else _ZERO)


def _divided(value: Value, by: Value) -> Value:
    (a, b), (c, d) = value, by
    multiply, add, divide = WORKING.multiply, WORKING.add, WORKING.divide
    norm = add(multiply(c, c), multiply(d, d))
    real = add(multiply(a, c), multiply(b, d))
    imaginary = WORKING.subtract(multiply(b, c), multiply(a, d))
    return _without_negligible((divide(real, norm), divide(imaginary, norm)))


def _number_text(value: Decimal) -> str:
    exact = _rational(value)
    return f"{_digits(value)}…" if exact is None else _short(str(exact))


def _rational(value: Decimal) -> Fraction | None:
    """The rational number with a small denominator that 38 digits of a value cannot be told from, if there is one.

    The larger the value, the fewer of its digits lie behind the point, and the smaller a denominator they can show.
    """
    size = max(value.adjusted(), 0)
    if size > 25:
        return None
    exact = Fraction(value)
    near = exact.limit_denominator(10 ** min(10, (30 - size) // 2))
    return near if (near or not exact) and abs(exact - near) <= Fraction(1, 10 ** (36 - size)) else None


def _value_text(value: Value) -> str:
    return "not real" if value[0].is_nan() else f"{_digits(value[0])} {_digits(value[1])}"


def _digits(value: Decimal) -> str:
    rounded = _ROUNDED.plus(value)
    if rounded == 0:
        return "0"
    rounded = rounded.normalize(_ROUNDED)
    return f"{rounded:f}" if -6 < rounded.adjusted() < DIGITS else f"{rounded:e}"


def _parts_key(real: str, imaginary: str) -> str:
    if imaginary == "0":
        return real
    return f"{'' if real == '0' else real}{'' if imaginary.startswith('-') else '+'}{imaginary}i"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:40]}… {_digest([text])}"


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()
