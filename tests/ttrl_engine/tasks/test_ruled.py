"""A person's merges and detached spellings on top of every kind."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.config import AnswerConfig, Detach, Merge
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.vote import elect

PROBLEM, OTHER = Problem("p", "?"), Problem("q", "?")


def ruled(merges=(), detached=()):
    return task_for(
        AnswerConfig(
            kind="number",
            merges=tuple(Merge(problem_id="p", answers=answers) for answers in merges),
            detached=tuple(Detach(problem_id="p", answer=answer) for answer in detached),
        )
    )


def test_merged_spellings_bring_their_classes_with_them():
    task = ruled(merges=[("12", "a dozen")])
    assert task.equivalent("12.0", "a dozen", PROBLEM)
    assert not task.equivalent("13", "a dozen", PROBLEM)


def test_merges_that_share_a_class_join():
    task = ruled(merges=[("1", "2"), ("3", "4"), ("4.0", "2.0")])
    assert len({task.canonical(raw, PROBLEM) for raw in "1234"}) == 1


def test_a_detached_spelling_stands_alone_and_its_class_goes_on_without_it():
    task = ruled(detached=["0.50"])
    assert not task.equivalent("0.50", "1/2", PROBLEM)
    assert task.equivalent("0.5", "1/2", PROBLEM)


def test_a_spelling_detached_from_one_class_can_be_merged_into_another():
    task = ruled(merges=[("0.50", "7")], detached=["0.50"])
    assert task.equivalent("0.50", "7.0", PROBLEM)
    assert not task.equivalent("0.50", "0.5", PROBLEM)


def test_other_problems_are_untouched():
    task = ruled(merges=[("1", "2")], detached=["3"])
    assert not task.equivalent("1", "2", OTHER)
    assert task.equivalent("3", "3.0", OTHER)


def test_the_vote_and_the_reference_follow_the_same_word():
    task = ruled(merges=[("12", "13")])
    election = elect([Extraction("12"), Extraction("13"), Extraction("14"), Extraction("14.0")], task, PROBLEM)
    assert [each.count for each in election.classes] == [2, 2]
    assert task.equivalent("13", "12", PROBLEM)


RAWS = ("1", "1.0", "2", "2.0", "3", "x", "y")


@given(
    st.lists(st.lists(st.sampled_from(RAWS), min_size=2, max_size=3), max_size=4),
    st.lists(st.sampled_from(RAWS), max_size=3),
)
def test_any_word_leaves_an_equivalence_that_keys_tell(merges, detached):
    task = ruled(merges=[tuple(each) for each in merges], detached=detached)
    keys = {raw: reading.key for raw, reading in task.keys(RAWS, PROBLEM).items()}
    for a, b in itertools.product(RAWS, repeat=2):
        assert task.equivalent(a, b, PROBLEM) == (keys[a] == keys[b]) == task.equivalent(b, a, PROBLEM)
    for merge in merges:
        assert len({keys[raw] for raw in merge}) == 1
