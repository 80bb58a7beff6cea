"""Exact arithmetic on sums of terms: a rational coefficient times powers of names and of whole numbers.

It settles rational numbers, roots of rational numbers, and polynomials; everything else is refused and left to whoever
computes with digits. Everything that could grow is capped, since the expressions are whatever a model wrote.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Final, TypeAlias

from ttrl_engine.equivalence.fingerprint import WORKING, Point, Value, exact_key, function_key, zero_key
from ttrl_engine.equivalence.grammar import Name, NotAnExpressionError, Number, Tree

__all__ = ["NotAnExpressionError", "Sum", "constant", "difference", "key_of", "of_tree", "zero_key_of"]

MAX_TERMS: Final = 64
MAX_BITS: Final = 4096
MAX_EXPANDED_POWER: Final = 16
MAX_POWER: Final = 64

Term: TypeAlias = tuple[tuple[str, Fraction], ...]
"""Powers of names and of whole numbers, sorted; the empty term is 1."""
Sum: TypeAlias = dict[Term, Fraction]
"""Term -> coefficient, never 0. The empty sum is 0."""

_ONE: Final[Term] = ()
_IMAGINARY: Final[Term] = (("i", Fraction(1)),)
_CONSTANTS: Final = {
    "e": Decimal(1).exp(WORKING),
    "\\pi": Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628621"),
}


def of_tree(tree: Tree) -> Sum:
    """The normal form. Raises NotAnExpressionError for anything that has none here, or too large a one."""
    if isinstance(tree, Number):
        return {_ONE: _checked(tree.value)} if tree.value else {}
    if isinstance(tree, Name):
        return {((tree.text, Fraction(1)),): Fraction(1)}
    values = [of_tree(argument) for argument in tree.arguments]
    return _combined(tree.operation, values)


def key_of(value: Sum) -> str:
    """The key of the value: exact for rational numbers, else from its digits. Raises NotAnExpressionError."""
    if set(value) <= {_ONE, _IMAGINARY}:
        return exact_key(value.get(_ONE, Fraction(0)), value.get(_IMAGINARY, Fraction(0)))
    return function_key(_variables(value), lambda point: _evaluated(value, point))


def zero_key_of(value: Sum) -> str:
    """The key of the equation `value = 0`. Raises NotAnExpressionError."""
    return zero_key(_variables(value), lambda point: _evaluated(value, point))


def constant(value: Sum) -> Fraction | None:
    """The number an expression is, or None if it is more than a rational number."""
    if not value:
        return Fraction(0)
    return value[_ONE] if set(value) == {_ONE} else None


def difference(a: Sum, b: Sum) -> Sum:
    """a - b."""
    return _add(a, b, -1)


def _combined(operation: str, values: list[Sum]) -> Sum:
    if operation == "+":
        total: Sum = {}
        for value in values:
            total = _add(total, value, 1)
        return total
    match operation, values:
        case "*", [a, b]:
            return _multiply(a, b)
        case "-", [a]:
            return {term: -coefficient for term, coefficient in a.items()}
        case "/", [a, b]:
            return _multiply(a, _invert(b))
        case "mixed", [a, b]:
            return _mixed(a, b)
        case "^", [a, b]:
            return _raised(a, b)
        case "root", [a, b]:
            degree = constant(b)
            if degree is not None and degree.denominator == 1 and 2 <= degree <= MAX_POWER:
                return _raised(a, {_ONE: 1 / degree})
    raise NotAnExpressionError(f"{operation} is not settled exactly")


def _checked(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise NotAnExpressionError("number too large")
    return value


def _add(a: Sum, b: Sum, sign: int) -> Sum:
    total = dict(a)
    for term, coefficient in b.items():
        value = _checked(total.pop(term, Fraction(0)) + sign * coefficient)
        if value:
            total[term] = value
    if len(total) > MAX_TERMS:
        raise NotAnExpressionError("too many terms")
    return total


def _multiply(a: Sum, b: Sum) -> Sum:
    if len(a) * len(b) > MAX_TERMS:
        raise NotAnExpressionError("too many terms")
    total: Sum = {}
    for left, left_coefficient in a.items():
        for right, right_coefficient in b.items():
            powers = dict(left)
            for atom, power in right:
                powers[atom] = powers.get(atom, Fraction(0)) + power
            total = _add(total, _term(powers, _checked(left_coefficient * right_coefficient)), 1)
    return total


def _term(powers: dict[str, Fraction], coefficient: Fraction) -> Sum:
    """One term in normal form: whole powers of numbers move into the coefficient, i^2 becomes -1."""
    kept = {}
    for atom, power in powers.items():
        if abs(power.numerator) > MAX_POWER or power.denominator > MAX_POWER:
            raise NotAnExpressionError("exponent too large")
        if atom.isdigit():
            whole = power.numerator // power.denominator
            coefficient = _checked(coefficient * _whole_power(Fraction(int(atom)), whole))
            power -= whole
        elif atom == "i":
            if power.denominator != 1:
                raise NotAnExpressionError("a root of i")
            coefficient *= (1, 1, -1, -1)[int(power % 4)]
            power = power % 2
        if power:
            kept[atom] = power
    return {tuple(sorted(kept.items())): coefficient} if coefficient else {}


def _invert(value: Sum) -> Sum:
    if not value:
        raise NotAnExpressionError("division by zero")
    if len(value) > 1:
        raise NotAnExpressionError("a sum in a denominator")
    ((term, coefficient),) = value.items()
    return _term({atom: -power for atom, power in term}, 1 / coefficient)


def _mixed(whole: Sum, part: Sum) -> Sum:
    """A whole number beside a proper fraction, read as their sum; anything else as a product."""
    number, share = constant(whole), constant(part)
    if number is None or share is None or not 0 < share < 1:
        return _multiply(whole, part)
    return {_ONE: number + share if number >= 0 else number - share}


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or size * abs(exponent) > MAX_BITS or (exponent < 0 and base == 0):
        raise NotAnExpressionError("power too large")
    return Fraction(base**exponent)


def _raised(base: Sum, exponent: Sum) -> Sum:
    """base ** exponent. A sum is multiplied out for small whole exponents; roots of products of names are refused."""
    power = constant(exponent)
    if power is None:
        raise NotAnExpressionError("an exponent that is no number")
    number = constant(base)
    if number is not None:
        whole = power.denominator == 1 and number != 0
        return {_ONE: _whole_power(number, int(power))} if whole else _radical(number, power)
    if len(base) > 1:
        if power.denominator != 1 or not 0 <= power <= MAX_EXPANDED_POWER:
            raise NotAnExpressionError("no power of a sum")
        result: Sum = {_ONE: Fraction(1)}
        for _ in range(int(power)):
            result = _multiply(result, base)
        return result
    ((term, coefficient),) = base.items()
    if power.denominator != 1 and (coefficient < 0 or not _is_one_name(term)):
        # sqrt(x^2) is not x, and sqrt(xy) is not sqrt(x) sqrt(y), where these are negative.
        raise NotAnExpressionError("a root of a product")
    scaled = _term({atom: own * power for atom, own in term}, Fraction(1))
    return _multiply(scaled, _raised({_ONE: coefficient}, {_ONE: power}))


def _is_one_name(term: Term) -> bool:
    return len(term) == 1 and term[0][1] == 1 and not term[0][0].isdigit()


def _radical(number: Fraction, power: Fraction) -> Sum:
    """number ** power for a fractional power; square factors leave a square root: sqrt(12) is 2 sqrt(3)."""
    if number == 0:
        if power <= 0:
            raise NotAnExpressionError("zero to no positive power")
        return {}
    if number < 0:
        positive = _radical(-number, power)
        if power.denominator == 2:
            return _multiply(_term({"i": Fraction(power.numerator)}, Fraction(1)), positive)
        if power.denominator % 2 == 0:
            raise NotAnExpressionError("an even root of a negative number")
        return positive if power.numerator % 2 == 0 else {term: -value for term, value in positive.items()}
    result = _term(_prime_powers(number.numerator, power), Fraction(1))
    return _multiply(result, _term(_prime_powers(number.denominator, -power), Fraction(1)))


def _prime_powers(number: int, power: Fraction) -> dict[str, Fraction]:
    """{prime: multiplicity * power}, by trial division to 1,000; a larger rest counts as one prime."""
    powers: dict[str, Fraction] = {}
    for prime in range(2, 1000):
        if prime * prime > number:
            break
        while number % prime == 0:
            number //= prime
            powers[str(prime)] = powers.get(str(prime), Fraction(0)) + power
    root = math.isqrt(number)
    if number > 1 and root * root == number:
        number, power = root, 2 * power
    if number > 1:
        powers[str(number)] = powers.get(str(number), Fraction(0)) + power
    return powers


def _variables(value: Sum) -> list[str]:
    names = {atom for term in value for atom, _ in term if not atom.isdigit()} - _CONSTANTS.keys()
    fractional = any(power.denominator != 1 for term in value for atom, power in term if atom in names)
    if fractional and "i" in names:
        raise NotAnExpressionError("complex roots of variables")
    return sorted(names - {"i"})


def _evaluated(value: Sum, point: Point) -> Value:
    """The value at a point; a sum that is nothing but the error of its terms is 0."""
    parts = {False: Decimal(0), True: Decimal(0)}
    size = Decimal(0)
    for term, coefficient in value.items():
        product = _decimal(coefficient)
        imaginary = False
        for atom, power in term:
            if atom == "i":
                imaginary = not imaginary
                continue
            factor, rotated = _power_of(atom, power, point)
            product = WORKING.multiply(product, factor)
            imaginary = imaginary or rotated
        parts[imaginary] = WORKING.add(parts[imaginary], product)
        size = max(size, product.copy_abs())
    least = WORKING.scaleb(size, -45)
    real, rest = (part if part.copy_abs() > least else Decimal(0) for part in (parts[False], parts[True]))
    return real, rest


def _power_of(atom: str, power: Fraction, point: Point) -> tuple[Decimal, bool]:
    """A factor's value, and whether it is not real: an even root of a negative number."""
    base = Decimal(int(atom)) if atom.isdigit() else _CONSTANTS.get(atom) or point[atom]
    size = WORKING.power(base.copy_abs(), _decimal(power))
    negative = base < 0 and power.numerator % 2 == 1
    return (size.copy_negate() if negative else size), base < 0 and power.denominator % 2 == 0


def _decimal(value: Fraction) -> Decimal:
    return WORKING.divide(Decimal(value.numerator), Decimal(value.denominator))
