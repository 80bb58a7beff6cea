"""Answers that are one number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.number import number_key, parse_number

TASK = get_task("number")
PROBLEM = Problem("p", "How many?")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("42", 42), ("042", 42), ("42.0", 42), ("+42", 42), ("-42", -42), ("−42", -42), ("42 apples", 42),
         ("42 cm", 42), ("42 km/h", 42),
        ("42%", 42), (r"42\%", 42), ("$42", 42), (r"\$42", 42), ("42 dollars", 42), ("€42", 42), ("x = 42", 42),
         ("about 42", 42),
        ("1,234.5", Fraction("1234.5")), ("1,234,567", 1234567), ("1 234 567", 1234567),
         ("1.234,50", Fraction("1234.5")), ("3,5", Fraction("3.5")),
        ("1/2", Fraction(1, 2)), (r"\frac{1}{2}", Fraction(1, 2)), (r"1\frac{1}{2}", Fraction(3, 2)),
         (".5", Fraction(1, 2)),
        ("1.5e3", 1500), (r"1.5 \times 10^{3}", 1500), ("2^{10}", 1024), (r"\text{42}", 42),
         (r"42\text{ apples}", 42), ("12 + 30", 42),
    ],
)  # fmt: skip
def test_a_number_is_read_through_what_surrounds_it(raw, value):
    assert parse_number(raw) == value


@pytest.mark.parametrize(
    "raw",
    ["", "many", "x", "3 or 4", "(1,2)", "1, 2", "12-15 apples", r"\sqrt{2}", "1e999", "9^{9^9}", "1/0", "4 of 5 9"],
)
def test_text_that_is_not_one_number_is_no_number(raw):
    assert parse_number(raw) is None
    if raw:
        assert TASK.extract(rf"\boxed{{{raw}}}", PROBLEM).reason == "not one number"


def test_whole_numbers_are_compared_exactly():
    assert not TASK.equivalent("123456789", "123456790", PROBLEM)
    assert TASK.equivalent("123456789", "123,456,789", PROBLEM)


def test_other_numbers_are_compared_to_six_digits_but_never_coarser_than_a_hundredth():
    assert TASK.equivalent("1/3", "0.333333", PROBLEM)
    assert not TASK.equivalent("1/3", "0.33333", PROBLEM)
    assert TASK.equivalent("2.9999999", "3", PROBLEM)
    assert not TASK.equivalent("1234567.25", "1234567.5", PROBLEM)


@given(st.fractions(), st.fractions(), st.fractions())
def test_tolerance_stays_transitive(a, b, c):
    ab, bc, ac = (TASK.equivalent(str(x), str(y), PROBLEM) for x, y in ((a, b), (b, c), (a, c)))
    assert ac or not (ab and bc)


@given(st.fractions(min_value=-(10**9), max_value=10**9))
def test_a_number_is_moved_by_at_most_five_millionths_of_itself(value):
    assert abs(Fraction(number_key(str(value))) - value) <= abs(value) * Fraction(5, 10**6)


@given(st.text(max_size=200))
def test_any_text_has_a_key(raw):
    assert isinstance(number_key(raw), str)
