r"""Keys of what our grammar has no word for (sums, limits, integrals, gcd …): math-verify reads it, sympy computes it.

Only math-verify's LaTeX path is used; its other one hands text to sympy's evaluator. Even so each number in a text
reaches `sympy.Number` as a string, which sympy evaluates: that evaluator is replaced by one that knows digits only.
math-verify reads some plain arithmetic otherwise than people do (2(3) as 5, 1/2x as 1/(2x)) and folds capital into
small letters, so texts where that could matter are refused. Runs in a child process only.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import sympy
from math_verify import LatexExtractionConfig, parse
from sympy.parsing import sympy_parser

from ttrl_engine.equivalence.evaluate import MAX_NAMES, NoValueError
from ttrl_engine.equivalence.fingerprint import WORKING, Point, Value, exact_key, function_key
from ttrl_engine.equivalence.names import GREEK

_NUMBER = re.compile(r"-?\d{1,100}(?:\.\d{1,100})?")
_DIGITS: Final = 60
_CONFIG: Final = [LatexExtractionConfig()]


def key_of(text: str) -> str:
    """The key of the expression. Raises NoValueError."""
    expression = _parsed(text)
    if expression in (sympy.oo, -sympy.oo):
        return "\\infty" if expression == sympy.oo else "-\\infty"
    if isinstance(expression, sympy.Rational):
        return exact_key(Fraction(int(expression.p), int(expression.q)))
    symbols = {_name(symbol): symbol for symbol in expression.free_symbols}
    if len(symbols) > MAX_NAMES or len(symbols) < len(expression.free_symbols):
        raise NoValueError("too many variables")
    if symbols and expression.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit):
        raise NoValueError("no closed form")
    return function_key(sorted(symbols), lambda point: _value(expression, symbols, point))


def _read_number(text: str, *_: object, **__: object) -> Any:
    """Stands in for sympy's `parse_expr`, which evaluates the text as Python."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("not a number")
    value = Fraction(text)
    return sympy.Rational(value.numerator, value.denominator)


sympy_parser.parse_expr = _read_number


def _parsed(text: str) -> Any:
    found = parse(
        f"${text.replace('bmod', 'mod')}$",
        extraction_config=_CONFIG,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    if not found or not isinstance(found[0], sympy.Expr):
        raise NoValueError("no expression")
    expression = found[0].doit()
    return expression.xreplace({symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"})


def _name(symbol: Any) -> str:
    """A variable's name as our grammar has it."""
    name, _, subscript = symbol.name.replace("{", "").replace("}", "").partition("_")
    return (f"\\{name}" if name in GREEK else name) + (f"_{subscript}" if subscript else "")


def _value(expression: Any, symbols: dict[str, Any], point: Point) -> Value:
    numbers = {symbol: sympy.Float(str(point[name]), _DIGITS + 20) for name, symbol in symbols.items()}
    value = expression.subs(numbers).evalf(_DIGITS)
    real, imaginary = value.as_real_imag()
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        raise NoValueError("no number")
    return _decimal(real), _decimal(imaginary)


def _decimal(value: Any) -> Decimal:
    number = WORKING.create_decimal(str(sympy.Float(value, _DIGITS)))
    # What is left of an exact 0 after evaluation.
    return number if abs(number) > Decimal("1e-50") else Decimal(0)
