"""One key per value, whoever computes it and however it is written."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttrl_engine.equivalence import evaluate, grammar, guard
from ttrl_engine.equivalence.fingerprint import coordinate
from ttrl_engine.tasks import expression, normal_form

NUMBERS = st.sampled_from(
    ["1", "2", "3", "7", "12", "0.5", r"\frac{2}{3}", r"\sqrt{2}", r"\sqrt{12}", r"\pi", "i", "e"]
)
NAMES = st.sampled_from(["x", "y", r"\theta", "x_1"])


def trees():
    def extend(children):
        pairs = st.tuples(children, st.sampled_from(["+", "-", r"\cdot"]), children)
        return st.one_of(
            pairs.map(lambda each: f"({each[0]}{each[1]}{each[2]})"),
            st.tuples(children, st.sampled_from(["2", "3"])).map(lambda each: f"({each[0]})^{{{each[1]}}}"),
            children.map(lambda each: f"-({each})"),
        )

    return st.recursive(st.one_of(NUMBERS, NAMES), extend, max_leaves=5)


@given(trees())
@settings(max_examples=150, deadline=None)
def test_exact_arithmetic_and_digits_give_the_same_key(text):
    try:
        settled = normal_form.key_of(expression.parse(text))
    except grammar.NotAnExpressionError:
        return
    assert settled == evaluate.key_of(grammar.parse(text))


@pytest.mark.parametrize(
    "texts",
    [
        ("2(3)", "6"), ("1/2x", r"\frac{1}{2}x", "0.5x"), (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"),
        ("20!", "2432902008176640000"),
        ("30!", "265252859812191058636308480000000"), (r"\frac{x^2-1}{x-1}", "x+1"), (r"x\sqrt{x}", r"\sqrt{x^3}",
         "x^{3/2}"),
        ("|x|", r"\sqrt{x^2}"), (r"\sqrt[3]{x}", "x^{1/3}"), (r"\sqrt[3]{-8}", "-2"), (r"\sin^2 x+\cos^2 x", "1",
         "1+y-y"),
        ("i+y-y", "i"), (r"0.\overline{3}", r"\frac{1}{3}"), ("1.5e3", "1500"), (r"\sin 30\degree", r"\frac{1}{2}"),
        (r"\tan^{-1} 1", r"\arctan 1", r"\frac{\pi}{4}"), (r"\ln x^2", r"2\ln|x|"), (r"e^{i\pi}", "-1"),
        (r"\lfloor\log_2 8\rfloor", "3"),
    ],
)  # fmt: skip
def test_equal_expressions_have_one_key(texts):
    assert len({evaluate.key_of(grammar.parse(text)) for text in texts}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x", "|x|"), ("x", "y"), ("x", "X"), (r"\sqrt{x^2}", "x"), (r"\ln x^2", r"2\ln x"), ("x_1", "x_2"),
        ("52_8", "52_9"),
        (r"\pi", "3.14159265358979"), (r"\sqrt{2}", "1.4142135623730950488"), ("e^{x}", "2.718^{x}"),
        ("x^{64}", "x^{63}"),
        (r"\sin x", r"\cos x"), ("xy", "x+y"), (r"\pi\cdot 10^{-60}", "0"),
        (r"e^{\pi\sqrt{163}}", "262537412640768744"),
    ],
)  # fmt: skip
def test_different_expressions_have_two_keys(a, b):
    assert evaluate.key_of(grammar.parse(a)) != evaluate.key_of(grammar.parse(b))


def test_points_lie_between_a_half_and_five_halves_and_never_change():
    assert 0.5 < coordinate("x", 0) < 2.5
    assert str(coordinate("x", 0))[:12] == "1.2060425263"
    assert len({coordinate(name, number) for name in "xyz" for number in (0, 1)}) == 6


@given(st.text(max_size=250))
def test_any_text_is_an_expression_or_none_and_the_guard_never_raises(text):
    guard.too_much(text)
    with contextlib.suppress(grammar.NotAnExpressionError):
        grammar.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^9}", "2^3^4", "2^{12345}", "20000!", "5!!", r"\binom{20000}{3}", "(" * 21 + "1" + ")" * 21, "1" * 201,
        r"\sin" * 41,
    ],
)  # fmt: skip
def test_the_guard_turns_away(text):
    assert guard.too_much(text) is not None


@pytest.mark.parametrize("text", ["9^{9}", "2^{10}", "x^{n+1}", "10!", r"\binom{52}{5}", r"\frac{1}{1+\frac{1}{2}}"])
def test_the_guard_lets_pass(text):
    assert guard.too_much(text) is None


@given(st.fractions(max_denominator=10**6))
def test_a_rational_number_is_its_own_key(value):
    tree = grammar.Number(abs(value))
    assert evaluate.key_of(tree) == str(abs(value))
    assert Fraction(evaluate.key_of(grammar.Call("-", (tree,)))) == -abs(value)
