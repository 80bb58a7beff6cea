"""Units of numbers, and tolerance."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.number import NumberTask

PROBLEM = Problem("p", "How long?")


@pytest.mark.parametrize(
    ("unit", "same", "other"),
    [
        ("cm", ["42", "42 cm", "42cm", r"42\text{ cm}", r"42~\mathrm{cm}", "42 centimetres", "42 Centimeters", "0.42 m",
                "420 mm", r"$42\,\text{cm}$", "4.2 dm"],
         ["42 mm", "42 m", "42 inches", "42 cm^2", "42 apples", "43"]),
        ("cm^2", ["42", r"42 \text{ cm}^2", "42 cm²", "42 square centimetres", "42 sq cm", "0.0042 m^2"],
         ["42 cm", "42 cm^3", "0.42 m^2"]),
        ("dollars", ["5", "$5", r"\$5", "5 dollars", "5 USD", "USD 5", "5.00 dollars"], ["5 euros", "€5",
        "5 cents", "£5"]),
        ("degrees", ["90", r"90^\circ", "90°", "90 degrees", r"90^{\circ}"], ["90 radians", "90%"]),
        ("%", ["50", "50%", r"50\%", "50 percent"], ["50 dollars", "0.5"]),
        ("km/h", ["60", "60 km/h", "60 km per h"], ["60 m/s", "60 km"]),
        ("apples", ["3", "3 apples", "3 apple"], ["3 pears"]),
        ("min", ["3", "3 minutes", "3 mins"], ["180 s", "3 h"]),
    ],
)  # fmt: skip
def test_a_unit_that_is_asked_for_tells_answers_apart(unit, same, other):
    task = NumberTask(unit)
    assert [raw for raw in same if not task.equivalent(raw, same[0], PROBLEM)] == []
    assert [raw for raw in other if task.equivalent(raw, same[0], PROBLEM)] == []


def test_units_are_ignored_where_none_is_asked_for():
    assert NumberTask().equivalent("42 cm", "42 inches", PROBLEM)


def test_the_instruction_names_the_unit():
    assert "one number in cm," in NumberTask("cm").default_suffix


@pytest.mark.parametrize(
    ("tolerance", "same", "different"),
    [
        (0.01, ("9.81", "9.8"), ("9.81", "9.6")),
        (0.05, ("100", "101"), ("100", "106")),
        (0.001, ("3.14159", "3.1416"), ("3.14", "3.15")),
    ],
)
def test_numbers_within_the_tolerance_of_a_round_one_are_one_answer(tolerance, same, different):
    task = NumberTask(tolerance=tolerance)
    assert task.equivalent(same[0], same[1], PROBLEM)
    assert not task.equivalent(different[0], different[1], PROBLEM)


@given(
    st.fractions(min_value=-(10**6), max_value=10**6),
    st.fractions(min_value=Fraction(-1, 5), max_value=Fraction(1, 5)),
    st.sampled_from([0.001, 0.01, 0.05, 0.3]),
)
def test_what_is_the_same_never_differs_by_more_than_the_tolerance(a, nudge, tolerance):
    task, b = NumberTask(tolerance=tolerance), a * (1 + nudge)
    if task.equivalent(str(a), str(b), PROBLEM):
        assert abs(a - b) <= Fraction(str(tolerance)) * max(abs(a), abs(b))


@given(st.fractions(), st.fractions(), st.fractions(), st.sampled_from([0.01, 0.5]))
def test_tolerance_stays_transitive(a, b, c, tolerance):
    task = NumberTask("m", tolerance)
    ab, bc, ac = (task.equivalent(str(x), str(y), PROBLEM) for x, y in ((a, b), (b, c), (a, c)))
    assert ac or not (ab and bc)


def test_nothing_but_zero_is_within_a_relative_distance_of_zero():
    assert not NumberTask(tolerance=0.5).equivalent("0", "0.000001", PROBLEM)
