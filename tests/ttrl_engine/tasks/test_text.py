"""Short texts: what makes another answer and what does not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.text import text_key

TASK = get_task("text")
PROBLEM = Problem("p", "Who?")


@pytest.mark.parametrize(
    "same",
    [
        ("The Beatles", "the beatles", "Beatles", "“Beatles”", "beatles!", r"\text{The Beatles}", "Beatles."),
        ("New York", "new  york", "NEW-YORK", "New\u00a0York", "Ｎｅｗ Ｙｏｒｋ"),
        ("café", "cafe", "cafe\u0301", "CAFÉ"),
        ("twenty-one", "21", "Twenty One", "021"),
        ("Washington, D.C.", "washington dc", "Washington DC"),
        ("O'Neill", "O’Neill", "oneill"),
        ("straße", "STRASSE"),
        ("Jürgen\u200b Habermas", "jurgen habermas"),
        ("The The", "the the"),
    ],
)
def test_what_does_not_make_another_answer_is_dropped(same):
    assert len({text_key(raw) for raw in same}) == 1, [text_key(raw) for raw in same]


def test_what_makes_another_answer_is_kept():
    answers = [
        "Paris",
        "Pari",
        "York New",
        "New York",
        "C",
        "C++",
        "C#",
        "21",
        "twenty",
        "कि",
        "की",
        "и",
        "й",
        "5 %",
        "5",
    ]
    for a, b in itertools.combinations(answers, 2):
        assert not TASK.equivalent(a, b, PROBLEM), (a, b)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is \boxed{\text{Marie Curie}}.", r"\text{Marie Curie}"),
        ("The answer is Marie Curie, who won it twice.", "Marie Curie, who won it twice"),
        ("The answer is St. Petersburg. It lies in the north.", "St. Petersburg"),
        ("Answer: **Lisbon**", "Lisbon"),
    ],
)
def test_a_boxed_or_stated_text_is_the_answer(text, answer):
    assert TASK.extract(text, PROBLEM).raw == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I think of Lisbon", "no final answer"),
        ("The answer is not known.", "no final answer"),
        ("The answer is ?!", "no final answer"),
        (r"\boxed{" + "word " * 60 + "}", "longer than 200 characters"),
    ],
)
def test_a_missing_text_has_a_reason(text, reason):
    assert TASK.extract(text, PROBLEM).reason == reason


@given(st.text(max_size=300))
def test_any_text_has_a_key_that_case_and_spaces_around_it_do_not_change(raw):
    assert text_key(raw)
    assert text_key(f"  {raw}\n ") == text_key(raw)
