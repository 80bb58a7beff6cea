"""Exact arithmetic on sums of terms: a rational coefficient times powers of atoms (variables, roots, functions).

Two values with the same normal form are equal; equal ones beyond these rules (identities of functions, say) may
differ. Everything that could grow is capped, since the expressions are whatever a model wrote.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, TypeAlias

MAX_TERMS: Final = 64
MAX_BITS: Final = 4096
MAX_EXPANDED_POWER: Final = 16
MAX_EXPONENT_BITS: Final = 256
MAX_RENDERED: Final = 2000

Term: TypeAlias = tuple[tuple[str, Fraction], ...]
"""Powers of atoms, sorted by atom; the empty term is 1."""
Sum: TypeAlias = dict[Term, Fraction]
"""Term -> coefficient, never 0. The empty sum is 0."""

ONE: Final[Term] = ()
_I: Final[Term] = (("i", Fraction(1)),)


class NotAnExpressionError(Exception):
    """The text is no expression of the small grammar, or too large to normalise."""


def render(value: Sum) -> str:
    """The normal form as text, the same for the same value: `1/2`, `-5*i+6`, `3*13^1/2`.

    Raises NotAnExpressionError where the text would be too long.
    """
    if not value:
        return "0"
    parts = []
    for term, coefficient in sorted(value.items(), reverse=True):
        factors = [atom if power == 1 else f"{atom}^{power}" for atom, power in term]
        parts.append("*".join([str(coefficient), *factors]) if coefficient != 1 or not factors else "*".join(factors))
    text = "+".join(parts)
    if len(text) > MAX_RENDERED:  # nested functions of expanded powers would multiply it
        raise NotAnExpressionError("too long")
    return text


def constant(value: Sum) -> Fraction | None:
    """The number an expression is, or None if it is more than a rational number."""
    if not value:
        return Fraction(0)
    return value[ONE] if set(value) == {ONE} else None


def difference(a: Sum, b: Sum) -> Sum:
    """a - b."""
    return add(a, b, -1)


def one_atom(name: str) -> Sum:
    """A variable, a function of something, or anything else taken as one."""
    return {((name, Fraction(1)),): Fraction(1)}


def from_digits(text: str) -> Sum:
    """The number an unsigned decimal text names."""
    value = Fraction(text)
    return {ONE: value} if value else {}


def _checked(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise NotAnExpressionError("number too large")
    return value


def add(a: Sum, b: Sum, sign: int) -> Sum:
    """a + sign * b. Like all that follow, raises NotAnExpressionError where the result would be too large."""
    total = dict(a)
    for term, coefficient in b.items():
        value = _checked(total.pop(term, Fraction(0)) + sign * coefficient)
        if value:
            total[term] = value
    if len(total) > MAX_TERMS:
        raise NotAnExpressionError("too many terms")
    return total


def multiply(a: Sum, b: Sum) -> Sum:
    """a * b, multiplied out."""
    if len(a) * len(b) > MAX_TERMS:
        raise NotAnExpressionError("too many terms")
    total: Sum = {}
    for left, left_coefficient in a.items():
        for right, right_coefficient in b.items():
            powers = dict(left)
            for atom, power in right:
                powers[atom] = powers.get(atom, Fraction(0)) + power
            for term, coefficient in _term(powers, _checked(left_coefficient * right_coefficient)).items():
                value = _checked(total.pop(term, Fraction(0)) + coefficient)
                if value:
                    total[term] = value
    return total


def _term(powers: dict[str, Fraction], coefficient: Fraction) -> Sum:
    """One term in normal form: whole powers of numbers move into the coefficient, i^2 becomes -1."""
    kept = {}
    for atom, power in powers.items():
        if power.numerator.bit_length() + power.denominator.bit_length() > MAX_EXPONENT_BITS:
            raise NotAnExpressionError("exponent too large")
        if atom.isdigit():
            whole = power.numerator // power.denominator
            coefficient = _checked(coefficient * _whole_power(Fraction(int(atom)), whole))
            power -= whole
        elif atom == "i" and power.denominator == 1:
            coefficient *= (1, 1, -1, -1)[int(power % 4)]
            power = power % 2
        if power:
            kept[atom] = power
    return {tuple(sorted(kept.items())): coefficient} if coefficient else {}


def invert(value: Sum) -> Sum:
    """1 / value."""
    if not value:
        raise NotAnExpressionError("division by zero")
    if len(value) == 1:
        ((term, coefficient),) = value.items()
        return _term({atom: -power for atom, power in term}, 1 / coefficient)
    # A sum in a denominator stays one atom, scaled so that 1/(2x+2) and (1/2)/(x+1) agree.
    leading = value[max(value)]
    scaled = {term: coefficient / leading for term, coefficient in value.items()}
    return {((f"({render(scaled)})", Fraction(-1)),): 1 / leading}


def mixed(whole: Sum, part: Sum) -> Sum:
    """A whole number beside a proper fraction, read as their sum; anything else as a product."""
    number, share = constant(whole), constant(part)
    if number is None or share is None or not 0 < share < 1:
        return multiply(whole, part)
    return {ONE: number + share if number >= 0 else number - share}


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or size * abs(exponent) > MAX_BITS or (exponent < 0 and base == 0):
        raise NotAnExpressionError("power too large")
    return Fraction(base**exponent)


def raised(base: Sum, exponent: Sum) -> Sum:
    """base ** exponent. A sum is multiplied out for small whole exponents, and one atom otherwise."""
    power = constant(exponent)
    if power is None:
        return one_atom(f"({render(base)})^({render(exponent)})")
    number = constant(base)
    if number is not None:
        whole = power.denominator == 1 and number != 0
        return {ONE: _whole_power(number, int(power))} if whole else _radical(number, power)
    if power.denominator == 1 and 0 <= power <= MAX_EXPANDED_POWER and len(base) > 1:
        result: Sum = {ONE: Fraction(1)}
        for _ in range(int(power)):
            result = multiply(result, base)
        return result
    if len(base) == 1:
        ((term, coefficient),) = base.items()
        scaled = _term({atom: own * power for atom, own in term}, Fraction(1))
        if power.denominator == 1 or coefficient > 0:
            return multiply(scaled, raised({ONE: coefficient}, {ONE: power}))
    return {((f"({render(base)})", power),): Fraction(1)}


def _radical(number: Fraction, power: Fraction) -> Sum:
    """number ** power for a fractional power; square factors leave a square root: sqrt(12) is 2 sqrt(3)."""
    if number == 0:
        if power <= 0:
            raise NotAnExpressionError("zero to no positive power")
        return {}
    if number < 0:
        if power.denominator == 2:
            return multiply(raised({_I: Fraction(1)}, {ONE: Fraction(power.numerator)}), _radical(-number, power))
        return {((f"({number})", power),): Fraction(1)}
    result = _term(_prime_powers(number.numerator, power), Fraction(1))
    return multiply(result, _term(_prime_powers(number.denominator, -power), Fraction(1)))


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
