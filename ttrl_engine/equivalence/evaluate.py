"""The value of a tree at a point, exact as long as it is rational, else to 100 digits.

Runs in a child process: the sizes are capped, but what is computed was chosen by a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import comb, factorial, isqrt
from typing import Any, Final, TypeAlias

from mpmath import mp

from ttrl_engine.equivalence.fingerprint import WORKING, Point, Value, exact_key, function_key, zero_key
from ttrl_engine.equivalence.grammar import Call, Name, Number, Tree, names_in

EVALUATION_DIGITS: Final = 100
MAX_BITS: Final = 12_000
MAX_OPERAND: Final = 10_000
MAX_NAMES: Final = 6
MAX_LOG10: Final = 100_000

Quantity: TypeAlias = Any
"""A Fraction, or an mpf or mpc of mpmath, which has no types."""


class NoValueError(Exception):
    """The expression has no value there, or too large a one."""


def key_of(tree: Tree, *, equation: bool = False) -> str:
    """The key of a tree, or of the equation that it is 0. Raises NoValueError."""
    names = sorted(names_in(tree))
    if len(names) > MAX_NAMES:
        raise NoValueError("too many variables")
    if not names and not equation:
        exact = evaluate(tree, {})
        if isinstance(exact, Fraction):
            return exact_key(exact)
    return (zero_key if equation else function_key)(names, lambda point: decimals(lambda: evaluate(tree, _mp(point))))


def decimals(compute: Callable[[], Quantity]) -> Value:
    """What is computed, as decimals. A tiny value is computed again with more digits: it may be 0."""
    with mp.workdps(EVALUATION_DIGITS):
        value = _complex(compute())
    if 0 < abs(value) < mp.mpf(10) ** -30:
        with mp.workdps(3 * EVALUATION_DIGITS):
            again = _complex(compute())
            if abs(again - value) > abs(value) * mp.mpf(10) ** -30:
                if abs(again) > mp.mpf(10) ** -(2 * EVALUATION_DIGITS):
                    raise NoValueError("too few digits")
                again = mp.mpc(0)
            value = again
    return _decimal(value.real), _decimal(value.imag)


def evaluate(tree: Tree, point: Mapping[str, Quantity]) -> Quantity:
    """The value of a tree. Raises NoValueError where it has none or is too large."""
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Name):
        constants = {"i": mp.mpc(0, 1), "e": mp.e, "\\pi": mp.pi}
        return +constants[tree.text] if tree.text in constants else point[tree.text]
    values = [evaluate(argument, point) for argument in tree.arguments]
    try:
        return _bounded(_apply(tree, values))
    except (ArithmeticError, ValueError, TypeError) as error:
        raise NoValueError(f"{tree.operation}: {error}") from error


def _mp(point: Point) -> dict[str, Quantity]:
    return {name: mp.mpf(str(value)) for name, value in point.items()}


def _apply(tree: Call, values: list[Quantity]) -> Quantity:
    match tree.operation, values:
        case "+", _:
            return _sum(values)
        case "*", [a, b]:
            return _binary(a, b, lambda x, y: x * y)
        case "-", [a]:
            return -a
        case "/", [a, b]:
            return _binary(a, b, lambda x, y: x / y)
        case "mixed", [a, b]:
            return a + b if isinstance(b, Fraction) and 0 < b < 1 else _binary(a, b, lambda x, y: x * y)
        case "^", [a, b]:
            return _power(a, b)
        case "root", [a, b]:
            return _power(a, _binary(Fraction(1), b, lambda x, y: x / y))
        case "log", [a, b]:
            return _real_number(mp.log(_number(a)) / mp.log(_number(b)))
        case "abs", [a]:
            return abs(a)
        case (("floor" | "ceil"), [a]):
            return _whole(a, tree.operation)
        case "factorial", [a]:
            return _factorial(a)
        case "binom", [a, b]:
            return _binomial(a, b)
        case "degrees", [a]:
            return _number(a) * mp.pi / 180
        case name, [a]:
            return _function(name, _number(a))
    raise NoValueError(f"no meaning for {tree.operation}")


def _function(name: str, x: Quantity) -> Quantity:
    if abs(x) > mp.mpf(10) ** 30 or (name in ("exp", "sinh", "cosh", "tanh", "coth") and abs(x) > MAX_LOG10):
        raise NoValueError("an argument too large")
    names = {
        "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc",
    }  # fmt: skip
    return _real_number(getattr(mp, names.get(name, name))(x))


def _real_number(value: Quantity) -> Quantity:
    return value.real if isinstance(value, mp.mpc) and value.imag == 0 else value


def _number(value: Quantity) -> Quantity:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _binary(a: Quantity, b: Quantity, operation: Callable[[Quantity, Quantity], Quantity]) -> Quantity:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return operation(a, b)
    return operation(_number(a), _number(b))


def _sum(values: list[Quantity]) -> Quantity:
    total: Quantity = Fraction(0)
    for value in values:
        total = _binary(total, value, lambda x, y: x + y)
    return total


def _power(base: Quantity, exponent: Quantity) -> Quantity:
    """base ** exponent; an odd root of a negative number is the real one, as schools have it."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if size * abs(exponent) <= MAX_BITS:
            return base ** int(exponent)
    x, n = _number(base), _number(exponent)
    if x == 0:
        if mp.re(n) <= 0:
            raise NoValueError("zero to no positive power")
        return Fraction(0)
    if abs(n) * abs(mp.log(x, 10)) > MAX_LOG10:
        raise NoValueError("a power too large")
    if isinstance(exponent, Fraction) and exponent.denominator % 2 == 1 and mp.im(x) == 0 and mp.re(x) < 0:
        size = mp.power(-mp.re(x), n)
        return -size if exponent.numerator % 2 else size
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2) and isinstance(base, Fraction) and base > 0:
        root = Fraction(isqrt(base.numerator), isqrt(base.denominator))
        return root if root * root == base else mp.sqrt(x)
    return mp.power(x, n)


def _whole(value: Quantity, operation: str) -> Fraction:
    if isinstance(value, Fraction):
        return Fraction(value.__floor__() if operation == "floor" else value.__ceil__())
    if mp.im(value) != 0 or abs(value) > mp.mpf(10) ** 30:
        raise NoValueError("no whole part")
    near = mp.nint(mp.re(value))
    if abs(mp.re(value) - near) > mp.mpf(10) ** -40:
        near = mp.floor(mp.re(value)) if operation == "floor" else mp.ceil(mp.re(value))
    return Fraction(int(near))


def _integer(value: Quantity) -> int | None:
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else None
    near = mp.nint(mp.re(value))
    return int(near) if abs(value) < mp.mpf(10) ** 30 and abs(value - near) < mp.mpf(10) ** -40 else None


def _factorial(value: Quantity) -> Quantity:
    if abs(value) > MAX_OPERAND:
        raise NoValueError("a factorial too large")
    whole = _integer(value)
    if whole is None:
        return mp.gamma(_number(value) + 1)
    if whole < 0:
        raise NoValueError("the factorial of a negative number")
    return Fraction(factorial(whole))


def _binomial(a: Quantity, b: Quantity) -> Quantity:
    if abs(a) > MAX_OPERAND or abs(b) > MAX_OPERAND:
        raise NoValueError("a binomial too large")
    n, k = _integer(a), _integer(b)
    if n is None or k is None:
        return mp.binomial(_number(a), _number(b))
    if n < 0 or k < 0:
        raise NoValueError("a binomial of negative numbers")
    return Fraction(comb(n, k))


def _bounded(value: Quantity) -> Quantity:
    if isinstance(value, Fraction):
        return value if value.numerator.bit_length() + value.denominator.bit_length() <= MAX_BITS else _number(value)
    if not mp.isfinite(value):
        raise NoValueError("no finite value")
    return value


def _complex(value: Quantity) -> Quantity:
    return mp.mpc(_number(value))


def _decimal(value: Quantity) -> Decimal:
    return WORKING.create_decimal(mp.nstr(value, 60, strip_zeros=False))
