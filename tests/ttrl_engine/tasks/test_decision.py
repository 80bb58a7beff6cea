"""Decisions: yes or no, or a closed list; the last clear statement wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.decision import NEGATED, NOT_A_DECISION, DecisionTask
from ttrl_engine.tasks.final_answer import CUT, NO_ANSWER, NO_BOX

PROBLEM = Problem("p", "Is it?")
YES_NO = DecisionTask()
VERDICT = DecisionTask(("guilty", "not guilty", "no verdict"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{Yes}", "yes"), (r"\boxed{\text{No}}", "no"), (r"\boxed{True}", "yes"), (r"\boxed{FALSE.}", "no"),
        (r"No. \boxed{yes}", "yes"), ("Yes, because 7 is prime.", "yes"), ("**No**", "no"), ("The answer is no.", "no"),
        ("Answer: Yes", "yes"), ("Yes? Let us see: 9 = 3 · 3. So the answer is no.", "no"),
        ("So the statement is false.", "no"), ("It is true that 2 is even. Yes.", "yes"),
        ("First I thought: yes. It is false.", "no"), ("the answer is \"Yes\"", "yes"), ("Therefore, no!", "no"),
        ("I would say yes because it holds", "yes"),
    ],
)  # fmt: skip
def test_the_last_clear_statement_is_the_decision(text, answer):
    assert YES_NO.extract(text, PROBLEM).raw == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Is it yes or no?", NO_ANSWER),
        ("There is no answer to be found in this true story", NO_ANSWER),
        ("The answer is not yes.", NEGATED),
        ("So it is not true.", NEGATED),
        ("It isn't true.", NEGATED),
        ("Yes. No, wait: it is not false.", NEGATED),
        (r"\boxed{maybe}", NOT_A_DECISION),
        (r"\boxed{yes and no}", NOT_A_DECISION),
        (r"\boxed{not yes}", NOT_A_DECISION),
        ("", NO_ANSWER),
        ("yesterday I noticed nothing", NO_ANSWER),
    ],
)
def test_what_is_not_clear_gives_no_answer_and_a_reason(text, reason):
    assert YES_NO.extract(text, PROBLEM).reason == reason


def test_a_text_that_was_cut_says_so():
    assert YES_NO.extract("Let us see whether", PROBLEM, truncated=True).reason == CUT


def test_a_list_of_ones_own_is_read_whole_and_longest_first():
    assert VERDICT.extract("The verdict is not guilty.", PROBLEM).raw == "not guilty"
    assert VERDICT.extract("The verdict is guilty.", PROBLEM).raw == "guilty"
    assert VERDICT.extract(r"\boxed{No Verdict}", PROBLEM).raw == "no verdict"
    assert VERDICT.extract(r"\boxed{yes}", PROBLEM).reason == NOT_A_DECISION
    assert "guilty, not guilty or no verdict" in VERDICT.default_suffix


def test_true_and_false_mean_yes_and_no_but_only_where_these_are_all():
    assert YES_NO.equivalent("True", "yes", PROBLEM)
    assert not YES_NO.equivalent("True", "no", PROBLEM)
    assert DecisionTask(("True", "False")).equivalent("no", "FALSE", PROBLEM)
    assert not DecisionTask(("true", "false", "unknown")).equivalent("yes", "true", PROBLEM)


def test_only_boxes_count_where_only_boxes_are_read():
    assert DecisionTask(boxed_only=True).extract("The answer is yes.", PROBLEM).reason == NO_BOX


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=5), st.text(max_size=300))
def test_any_list_and_any_text_can_be_read(labels, text):
    task = DecisionTask(labels)
    found = task.extract(text, PROBLEM)
    assert found.raw in labels or found.reason
