r"""Small expressions, in LaTeX or plain text, read into the normal form of `normal_form`.

It is a parser of its own: no text is ever evaluated.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, NamedTuple

from ttrl_engine.tasks.normal_form import (
    MAX_BITS,
    ONE,
    NotAnExpressionError,
    Sum,
    add,
    constant,
    from_digits,
    invert,
    mixed,
    multiply,
    one_atom,
    raised,
    render,
)

MAX_LENGTH: Final = 400
MAX_DEPTH: Final = 25


class _Token(NamedTuple):
    kind: str
    text: str


_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[A-Za-z]+)|(?P<letter>[A-Za-z])|(?P<mark>[-+*/^_(){}\[\]|])|(?P<gap>\s+)"
)
_FUNCTIONS: Final = frozenset(
    "\\" + name
    for name in [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "ln",
        "exp",
        "lg",
    ]
)
_TIMES: Final = frozenset({"*", "\\cdot", "\\times"})


def parse(text: str) -> Sum:
    """The normal form. Raises NotAnExpressionError for anything else; never another error, never slow."""
    if len(text) > MAX_LENGTH:
        raise NotAnExpressionError("too long")
    parser = _Parser(_tokens(text))
    result = parser.sum(0)
    if parser.peek() is not None:
        raise NotAnExpressionError("unexpected end")
    return result


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotAnExpressionError(f"stray {text[position]!r}")
        position = match.end()
        if match.lastgroup != "gap":
            tokens.append(_Token(match.lastgroup or "", match.group()))
    return tokens


class _Parser:
    """Recursive descent: sum -> product -> power -> atom, with juxtaposition as a product."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def peek(self) -> str | None:
        return self._tokens[self._next].text if self._next < len(self._tokens) else None

    def _take(self) -> _Token:
        if self._next >= len(self._tokens):
            raise NotAnExpressionError("ends too soon")
        self._next += 1
        return self._tokens[self._next - 1]

    def _expect(self, text: str) -> None:
        if self._take().text != text:
            raise NotAnExpressionError(f"no {text}")

    def sum(self, depth: int) -> Sum:
        if depth > MAX_DEPTH:
            raise NotAnExpressionError("too deep")
        total: Sum = {}
        sign = 1
        if self.peek() in ("+", "-"):
            sign = -1 if self._take().text == "-" else 1
        while True:
            total = add(total, self._product(depth), sign)
            if self.peek() not in ("+", "-"):
                return total
            sign = -1 if self._take().text == "-" else 1

    def _product(self, depth: int) -> Sum:
        result = self._signed(depth)
        while (following := self.peek()) is not None:
            if following in _TIMES:
                self._take()
                result = multiply(result, self._signed(depth))
            elif following in ("/", "\\div"):
                self._take()
                result = multiply(result, invert(self._signed(depth)))
            elif following == "\\frac" and self._after_integer():
                result = mixed(result, self._power(depth))
            elif self._starts_factor():
                if self._tokens[self._next].kind == "number":
                    raise NotAnExpressionError("two numbers without a sign between them")
                result = multiply(result, self._power(depth))
            else:
                break
        return result

    def _signed(self, depth: int) -> Sum:
        if self.peek() == "-":
            self._take()
            return multiply({ONE: Fraction(-1)}, self._power(depth))
        return self._power(depth)

    def _after_integer(self) -> bool:
        before = self._tokens[self._next - 1]
        # "1\frac{4}{5}" is a mixed number; "2^3\frac{4}{5}" and "x_1\frac{4}{5}" are products.
        alone = self._next < 2 or self._tokens[self._next - 2].text in ("+", "-", "(", "{", "[")
        return before.kind == "number" and before.text.isdigit() and alone

    def _starts_factor(self) -> bool:
        kind, text = self._tokens[self._next]
        return (kind in ("number", "letter", "command") and text not in _TIMES) or text in ("(", "{", "[")

    def _power(self, depth: int) -> Sum:
        base = self._atom(depth + 1)
        if self.peek() == "^":
            self._take()
            exponent = self._argument(depth + 1)
            return raised(base, exponent)
        return base

    def _argument(self, depth: int, *, one_digit: bool = False) -> Sum:
        r"""What a command takes: a braced group, a command, a letter or a number.

        Of a number TeX takes `one_digit`, as in `\frac43`; in `x^12` or `\sqrt13` writers mean all of it.
        """
        if depth > MAX_DEPTH:
            raise NotAnExpressionError("too deep")
        token = self._take()
        if token.text == "-":  # ^-2 is not TeX, but is written
            return multiply({ONE: Fraction(-1)}, self._argument(depth + 1))
        if token.kind == "number":
            if one_digit and token.text.isdigit() and len(token.text) > 1:
                self._next -= 1
                self._tokens[self._next] = _Token("number", token.text[1:])
                return from_digits(token.text[0])
            return from_digits(token.text)
        if token.kind == "letter":
            return one_atom(token.text)
        self._next -= 1
        return self._atom(depth + 1)

    def _atom(self, depth: int) -> Sum:
        if depth > MAX_DEPTH:
            raise NotAnExpressionError("too deep")
        token = self._take()
        if token.text in ("(", "{", "["):
            inner = self.sum(depth + 1)
            self._expect({"(": ")", "{": "}", "[": "]"}[token.text])
            return inner
        if token.kind == "number":
            return self._subscripted(token.text) if self.peek() == "_" else from_digits(token.text)
        if token.kind == "letter":
            return self._subscripted(token.text)
        if token.text == "\\frac":
            numerator = self._argument(depth + 1, one_digit=True)
            return multiply(numerator, invert(self._argument(depth + 1, one_digit=True)))
        if token.text == "\\sqrt":
            return self._root(depth + 1)
        if token.text in _FUNCTIONS:
            return self._function(token.text, depth + 1)
        if token.kind == "command" and token.text not in _TIMES:
            return self._subscripted(token.text)
        raise NotAnExpressionError(f"stray {token.text}")

    def _subscripted(self, name: str) -> Sum:
        if self.peek() != "_":
            return one_atom(name)
        self._take()
        return one_atom(f"{name}_{render(self._argument(0))}")

    def _root(self, depth: int) -> Sum:
        degree = Fraction(2)
        if self.peek() == "[":
            self._take()
            wanted = constant(self.sum(depth + 1))
            self._expect("]")
            if wanted is None or wanted.denominator != 1 or not 2 <= wanted <= MAX_BITS:
                raise NotAnExpressionError("odd root")
            degree = wanted
        return raised(self._argument(depth + 1), {ONE: 1 / degree})

    def _function(self, name: str, depth: int) -> Sum:
        suffix = ""
        while self.peek() in ("^", "_"):
            mark = self._take().text
            suffix += f"{mark}{render(self._argument(depth + 1))}"
        if self.peek() in ("(", "{", "["):
            argument = self._atom(depth + 1)
        else:
            argument = self._power(depth + 1)
            while self.peek() is not None and self._starts_factor() and self.peek() not in (*_FUNCTIONS, "(", "{", "["):
                argument = multiply(argument, self._power(depth + 1))
        return one_atom(f"{name}{suffix}({render(argument)})")
