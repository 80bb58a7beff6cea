r"""Expressions, in LaTeX or plain text, read into a tree.

It is a parser of its own and the only one that decides how an answer is read: no text is ever evaluated, 2(3) is 6 and
1/2x is (1/2)x. Trees are small, since texts are short and the depth is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from ttrl_engine.equivalence.names import FUNCTIONS, GREEK

MAX_LENGTH: Final = 400
MAX_DEPTH: Final = 25


class NotAnExpressionError(Exception):
    """The text is no expression of the grammar, or too large."""


@dataclass(frozen=True)
class Number:
    """An exact number."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    r"""A letter, Greek letter (`\pi`), subscripted name (`x_1`) or numeral in a base (`52_8`)."""

    text: str


@dataclass(frozen=True)
class Call:
    """An operation on trees.

    `+` and `*` take any number, `-` one, `/` and `^` two, `mixed` a whole number and a fraction, `root` a radicand and
    a degree, `log` an argument and perhaps a base; all others are functions of one argument, `binom` of two.
    """

    operation: str
    arguments: tuple[Tree, ...]


Tree: TypeAlias = Number | Name | Call


class _Token(NamedTuple):
    kind: str
    text: str


_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[A-Za-z]+)|(?P<letter>[A-Za-z])|(?P<mark>[-+*/^_(){}\[\]|!])|(?P<gap>\s+)"
)
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.\\_])(\d{1,40}(?:\.\d{1,40})?)[eE]([-+]?\d{1,3})(?![A-Za-z\d.])")
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)(?:\{\s{0,2}(\d{1,20})\s{0,2}\}|\s{0,2}(\d))"
)
_TIMES: Final = frozenset({"*", "\\cdot", "\\times"})
_FUNCTIONS: Final = frozenset("\\" + name for name in FUNCTIONS)
_LETTERS: Final = frozenset("\\" + name for name in GREEK)
_ROUNDED: Final = {"\\lfloor": ("floor", "\\rfloor"), "\\lceil": ("ceil", "\\rceil")}
_OPENING: Final = ("(", "{", "[")
_INVERSE: Final = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc"}
_TEN = Number(Fraction(10))


def parse(text: str) -> Tree:
    """The tree. Raises NotAnExpressionError for anything else; never another error, never slow."""
    if len(text) > MAX_LENGTH:
        raise NotAnExpressionError("too long")
    text = _REPEATING.sub(_repeating, text)
    parser = _Parser(_tokens(_SCIENTIFIC.sub(r"(\1*10^{\2})", text)))
    result = parser.sum(0)
    if parser.peek() is not None:
        raise NotAnExpressionError("unexpected end")
    return result


def names_in(tree: Tree) -> set[str]:
    r"""The variables of a tree: all its names but `i`, `e` and `\pi`."""
    if isinstance(tree, Name):
        return {tree.text} - {"i", "e", "\\pi"}
    return set().union(*map(names_in, tree.arguments)) if isinstance(tree, Call) else set()


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match.group(1) or "0", match.group(2), match.group(3) or match.group(4)
    scale = 10 ** len(fixed)
    value = Fraction(int(whole + fixed), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"({value})"


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
        self._open_bars = 0

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

    def sum(self, depth: int) -> Tree:
        _check(depth)
        terms: list[Tree] = []
        sign = self._take().text if self.peek() in ("+", "-") else "+"
        while True:
            term = self._product(depth)
            terms.append(Call("-", (term,)) if sign == "-" else term)
            if self.peek() not in ("+", "-"):
                return terms[0] if len(terms) == 1 else Call("+", tuple(terms))
            sign = self._take().text

    def _product(self, depth: int) -> Tree:
        result = self._signed(depth)
        while (following := self.peek()) is not None:
            if following in _TIMES:
                self._take()
                result = Call("*", (result, self._signed(depth)))
            elif following == "/":
                self._take()
                result = Call("/", (result, self._signed(depth)))
            elif following == "\\frac" and self._after_integer():
                result = Call("mixed", (result, self._power(depth)))
            elif self._starts_factor():
                if self._tokens[self._next].kind == "number":
                    raise NotAnExpressionError("two numbers without a sign between them")
                result = Call("*", (result, self._power(depth)))
            else:
                break
        return result

    def _signed(self, depth: int) -> Tree:
        sign = self._take().text if self.peek() in ("+", "-") else "+"
        factor = self._power(depth)
        return Call("-", (factor,)) if sign == "-" else factor

    def _after_integer(self) -> bool:
        before = self._tokens[self._next - 1]
        # "1\frac{4}{5}" is a mixed number; "2^3\frac{4}{5}" and "x_1\frac{4}{5}" are products.
        alone = self._next < 2 or self._tokens[self._next - 2].text in ("+", "-", *_OPENING)
        return before.kind == "number" and before.text.isdigit() and alone

    def _starts_factor(self) -> bool:
        kind, text = self._tokens[self._next]
        if text == "|":
            return self._open_bars == 0
        closing = text in _TIMES or text in ("\\rfloor", "\\rceil")
        return (kind in ("number", "letter", "command") and not closing) or text in _OPENING

    def _power(self, depth: int) -> Tree:
        result = self._atom(depth + 1)
        while self.peek() in ("!", "\\degree"):
            result = Call("factorial" if self._take().text == "!" else "degrees", (result,))
            if self.peek() == "!":
                raise NotAnExpressionError("a double factorial")
        if self.peek() == "^":
            self._take()
            result = Call("^", (result, self._argument(depth + 1)))
        return result

    def _argument(self, depth: int, *, one_digit: bool = False) -> Tree:
        r"""What a command takes: a braced group, a command, a letter or a number.

        Of a number TeX takes `one_digit`, as in `\frac43`; in `x^12` or `\sqrt13` writers mean all of it.
        """
        _check(depth)
        token = self._take()
        if token.text == "-":  # ^-2 is not TeX, but is written
            return Call("-", (self._argument(depth + 1),))
        if token.kind == "number":
            if one_digit and token.text.isdigit() and len(token.text) > 1:
                self._next -= 1
                self._tokens[self._next] = _Token("number", token.text[1:])
                return Number(Fraction(token.text[0]))
            return Number(Fraction(token.text))
        if token.kind == "letter":
            return Name(token.text)
        self._next -= 1
        return self._atom(depth + 1)

    def _atom(self, depth: int) -> Tree:
        _check(depth)
        token = self._take()
        if token.text in _OPENING:
            return self._closed_by({"(": ")", "{": "}", "[": "]"}[token.text], depth)
        if token.text == "|":
            self._open_bars += 1
            inner = self._closed_by("|", depth)
            self._open_bars -= 1
            return Call("abs", (inner,))
        if token.kind == "number":
            return self._subscripted(token.text, depth) if self.peek() == "_" else Number(Fraction(token.text))
        if token.kind == "letter" or token.text in _LETTERS:
            return self._subscripted(token.text, depth)
        if token.text in ("\\frac", "\\binom"):
            first = self._argument(depth + 1, one_digit=True)
            second = self._argument(depth + 1, one_digit=True)
            return Call("/" if token.text == "\\frac" else "binom", (first, second))
        if token.text == "\\sqrt":
            return self._root(depth + 1)
        if token.text in _FUNCTIONS:
            return self._function(token.text[1:], depth + 1)
        if token.text in _ROUNDED:
            name, closing = _ROUNDED[token.text]
            return Call(name, (self._closed_by(closing, depth),))
        raise NotAnExpressionError(f"stray {token.text}")

    def _closed_by(self, closing: str, depth: int) -> Tree:
        inner = self.sum(depth + 1)
        self._expect(closing)
        return inner

    def _subscripted(self, name: str, depth: int) -> Tree:
        if self.peek() != "_":
            return Name(name)
        self._take()
        subscript = _plain(self._argument(depth + 1))
        return Name(f"{name.lstrip('0') or '0'}_{subscript}")

    def _root(self, depth: int) -> Tree:
        degree: Tree = Number(Fraction(2))
        if self.peek() == "[":
            self._take()
            degree = self._closed_by("]", depth)
        return Call("root", (self._argument(depth + 1), degree))

    def _function(self, name: str, depth: int) -> Tree:
        exponent: Tree | None = None
        base: Tree | None = None
        while self.peek() in ("^", "_"):
            if self._take().text == "^":
                exponent = self._argument(depth + 1)
            else:
                base = self._argument(depth + 1)
        if base is not None and name != "log":
            raise NotAnExpressionError("a function with an index")
        argument = self._function_argument(depth)
        if exponent == Call("-", (Number(Fraction(1)),)):
            if name not in _INVERSE:
                raise NotAnExpressionError("an inverse without a name")
            return Call(_INVERSE[name], (argument,))
        if name in ("log", "lg"):
            result: Tree = Call("log", (argument, base or _TEN))
        else:
            result = Call(name, (argument,))
        return result if exponent is None else Call("^", (result, exponent))

    def _function_argument(self, depth: int) -> Tree:
        if self.peek() in _OPENING or self.peek() == "|":
            return self._atom(depth + 1)
        argument = self._power(depth + 1)
        while self.peek() is not None and self._starts_factor() and self.peek() not in (*_FUNCTIONS, *_OPENING):
            argument = Call("*", (argument, self._power(depth + 1)))
        return argument


def _check(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotAnExpressionError("too deep")


def _plain(subscript: Tree) -> str:
    if isinstance(subscript, Number):
        return str(subscript.value)
    if isinstance(subscript, Name):
        return subscript.text
    if subscript.operation in ("*", "+", "-"):
        return subscript.operation.join(map(_plain, subscript.arguments))
    raise NotAnExpressionError("a subscript that is no name")
