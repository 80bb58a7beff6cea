"""Where the final answer of a rollout is found, and why it is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import find_answer, is_blank, show

KINDS: tuple[TaskKind, ...] = ("math", "number", "choice")
PROBLEM = Problem("p", "Which?", ("red", "green", "blue"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{5}.", "5"),
        (r"First \boxed{4}, no: \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"$\boxed 7$", "7"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"The answer is 4. I mean \boxed{5}", "5"),
        (r"\boxed{5}. The answer is 4.", "5"),
        ("The final answer is 42.", "42"),
        ("the answer is $\\frac{1}{2}$, as shown", r"\frac{1}{2}"),
        ("The answer is: **12**", "12"),
        ("ANSWER: 12", "12"),
        ("Answer:\n12", "12"),
        ("The answer is 4. No, the answer is 5.", "5"),
        ("The answer is 5 because 2 + 3 = 5.", "5"),
        ("The answer is 3.5.", "3.5"),
        ("The answer to the problem is \\(x+1\\).", "x+1"),
        ("So the result is 9\nThank you!", "9"),
    ],
)
def test_the_last_box_counts_and_then_the_last_stated_answer(text, answer):
    assert find_answer(text) == Extraction(answer)


@pytest.mark.parametrize(
    ("text", "truncated", "reason"),
    [
        ("2 + 3 is 5 and 5 is 5", False, "no final answer"),
        ("", False, "no final answer"),
        ("We add 2 and", True, "cut before the answer"),
        (r"so it is \boxed{12", True, "cut before the answer"),
        (r"\boxed{4} or rather \boxed{12", True, "cut before the answer"),
        (r"\boxed{12", False, "box that never closes"),
        (r"\boxed{}", False, "boxed text is empty"),
        (r"\boxed{ \, $$ }", False, "boxed text is empty"),
        (r"\boxed{\text{ }}", False, "boxed text is empty"),
        (r"\boxed{" + "1+" * 150 + "}", False, "longer than 200 characters"),
        (r"\boxed{" + "9" * 100_000 + "}", False, "longer than 200 characters"),
        (r"\boxed{" + "{" * 21 + "1" + "}" * 22, False, "braces nested deeper than 20"),
        ("The answer is not known to me.", False, "no final answer"),
        ("The answer is.", False, "no final answer"),
        ("The answer is " + "very " * 80 + "long", False, "longer than 200 characters"),
    ],
)
def test_a_missing_answer_has_a_reason(text, truncated, reason):
    assert find_answer(text, truncated=truncated) == Extraction(None, reason)


def test_a_number_in_the_text_is_never_taken_for_the_answer():
    for kind in KINDS:
        assert get_task(kind).extract("We get 12, then 15, so 27 apples", PROBLEM).raw is None


def test_an_extraction_has_an_answer_or_a_reason_and_not_both():
    for raw, reason in ((None, None), ("5", "why")):
        with pytest.raises(ValueError, match="either"):
            Extraction(raw, reason)


@pytest.mark.parametrize(
    "piece",
    [r"\boxed{", "{", r"\boxed ", "answer:", "answer is ", "answer to ", " ", "answer: $", "\\", "(", "\\(", "9", "*",
    "\n", "\0", "a\u0300",
     "answer is (", "because ", "\u202e", "A. ", "<b>"],
)  # fmt: skip
def test_a_megabyte_of_anything_is_read_within_a_second(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    for kind in KINDS:
        task = get_task(kind)
        task.extract(text, PROBLEM, truncated=True)
        task.canonical(text, PROBLEM)
        task.display(text)
    assert time.process_time() - start < 1.0


@given(st.text(max_size=200), st.booleans())
def test_no_rollout_breaks_extraction_and_no_blank_is_ever_an_answer(text, truncated):
    for kind in KINDS:
        for rollout in (text, rf"\boxed{{{text}}}", f"The answer is {text}"):
            found = get_task(kind).extract(rollout, PROBLEM, truncated=truncated)
            assert found.reason if found.raw is None else not is_blank(found.raw)


def test_an_answer_is_shown_on_one_line_without_control_characters_or_direction_marks():
    assert show("a\n b\t\x00\u202ec\x1b[31m") == "a b c[31m"
    assert len(show("x" * 10_000)) == 200
