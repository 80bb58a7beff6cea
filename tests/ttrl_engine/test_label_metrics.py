"""Pseudo-labels held against reference answers, as the official code counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.label_metrics import LabelQuality, measure_label
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.vote import Election, elect

PROBLEM = Problem("p", "What is it?")
TASK = get_task("math")


def hold(answers, **rules) -> Election:
    """The election over raw answers; None is a rollout without one."""
    return elect([Extraction(a) if a else Extraction(None, "cut") for a in answers], TASK, PROBLEM, **rules)


def numbers(quality) -> tuple[bool, float, float, bool]:
    return quality.label_correct, quality.reward_accuracy, quality.truth_share, quality.any_correct


def measured(election: Election, reference: str) -> LabelQuality:
    quality = measure_label(election, reference, TASK, PROBLEM)
    assert quality is not None
    return quality


def test_a_right_label_makes_every_reward_right():
    quality = measured(hold(["1/2", "0.5", "3", None]), r"\frac12")
    assert numbers(quality) == (True, 1.0, 0.5, True)
    assert quality == LabelQuality(True, (True, False), (True, True, False, False), (True,) * 4)


def test_a_wrong_label_rewards_wrongly_its_own_votes_and_the_true_ones():
    quality = measured(hold(["1", "1", "1", "2", "3", None, None, "4"]), "2")
    assert numbers(quality) == (False, 1 - 3 / 8 - 1 / 8, 1 / 8, True)
    assert quality.classes_correct == (False, True, False, False)
    assert quality.agrees == (False, False, False, False, True, True, True, True)


def test_an_abstention_is_no_right_label_and_errs_only_on_the_true_rollouts():
    quality = measured(hold(["1", "2", None, None]), "2")
    assert numbers(quality) == (False, 0.75, 0.25, True)
    assert quality.classes_correct == (False, True)


def test_an_answer_nobody_gave_is_not_right():
    quality = measured(hold(["1", "1"]), "2")
    assert numbers(quality) == (False, 0.0, 0.0, False)


def test_the_trained_rollouts_are_measured_under_the_label_of_all():
    quality = measured(hold(["2", "1", "1", "1", "3", None, "2", "4"]), "2")
    assert numbers(quality) == (False, 3 / 8, 2 / 8, True)
    assert numbers(quality.among((0, 1, 2, 4))) == (False, 1 / 4, 1 / 4, True)
    assert numbers(quality.among((1, 5))) == (False, 1 / 2, 0.0, False)


def test_without_rollouts_there_is_nothing_to_measure():
    assert measure_label(hold([]), "2", TASK, PROBLEM) is None


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=16), st.sampled_from("129"))
def test_reward_accuracy_of_an_abstention_is_1_minus_q(answers, reference):
    quality = measured(hold(answers, min_consensus=1.0), reference)
    if not hold(answers).unanimous:
        assert quality.reward_accuracy == pytest.approx(1 - quality.truth_share)


@given(st.lists(st.sampled_from(["1", "2", "4/2", "3", "4", None]), min_size=1, max_size=16), st.sampled_from("12349"))
def test_reward_accuracy_is_1_if_right_else_1_minus_p_minus_q(answers, reference):
    election = hold(answers, tie="first_sampled")
    quality = measured(election, reference)
    assert quality is not None
    if quality.label_correct:
        assert quality.reward_accuracy == 1
        assert quality.truth_share == election.consensus
    else:
        assert quality.reward_accuracy == pytest.approx(1 - election.consensus - quality.truth_share)
