"""Multiple choice: letters and option texts, never an article."""

from __future__ import annotations

import pytest

from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task

TASK = get_task("choice")
COLOURS = Problem("p", "Which colour?", ("red", "green", "dark blue", r"$\frac{1}{2}$"))
INLINE = Problem("p", "Which?\nA. red\nB. green")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"), (r"\boxed{b}", "B"), (r"\boxed{(B)}", "B"), (r"\boxed{\text{B}}", "B"),
         (r"\boxed{\textbf{(B)}}", "B"),
        (r"\boxed{B. green}", "B"), (r"\boxed{(B) green}", "B"), (r"\boxed{green}", "B"), (r"\boxed{Dark Blue.}",
         "C"), (r"\boxed{0.5}", "D"),
        (r"\boxed{option B}", "B"), ("The answer is (B).", "B"), ("The answer is (b).", "B"), ("The answer is B",
         "B"), ("Answer: **B**", "B"),
        ("The answer is option C because the sky is one.", "C"), ("Answer: C. This is a hard one.", "C"),
         ("The answer is A.", "A"),
        ("The answer is B, a nice one.", "B"), ("Answer: green", "B"), ("The correct answer is (A) red", "A"),
    ],
)  # fmt: skip
def test_a_letter_or_an_options_text_is_the_answer(text, letter):
    found = TASK.extract(text, COLOURS)
    assert found.raw is not None, found
    assert TASK.canonical(found.raw, COLOURS) == letter


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The answer is a hard one.", "not one of the options"),
        ("The answer is A hard one.", "not one of the options"),
        ("The answer is I think unknown.", "not one of the options"),
        ("This is a red herring, B cells and all", "no final answer"),
        (r"\boxed{E}", "not one of the options"),
        ("The answer is (E).", "not one of the options"),
        (r"\boxed{purple}", "not one of the options"),
        (r"\boxed{A. green}", "not one of the options"),
        ("", "no final answer"),
    ],
)
def test_anything_else_is_no_answer(text, reason):
    assert TASK.extract(text, COLOURS).reason == reason


def test_letters_count_where_the_options_stand_in_the_prompt():
    assert TASK.extract(r"\boxed{J}", INLINE).raw == "J"
    assert TASK.extract(r"\boxed{K}", INLINE).raw is None


def test_an_option_text_that_stands_twice_means_no_letter():
    twice = Problem("p", "Which?", ("red", "red", "blue"))
    assert TASK.extract(r"\boxed{red}", twice).raw is None


def test_a_reference_equals_its_letter_in_any_form():
    for reference in ("B", "(B)", "b", "green", "B. green", r"\text{(B)}"):
        assert TASK.equivalent(reference, "B", COLOURS)
        assert not TASK.equivalent(reference, "C", COLOURS)
