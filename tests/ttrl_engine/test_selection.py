"""Which rollouts are trained on: the first, or as many winners as dissenters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ttrl_engine.test_vote import hold
from ttrl_engine.selection import select

ANSWERS = st.lists(st.sampled_from(["1", "1.0", "2", "3", "4", "5", None]), min_size=1, max_size=24)


def test_the_first_sampled_are_taken_as_in_the_paper():
    assert select(hold("2", "1", "1", None, "1"), 3, "first") == (0, 1, 2)


def test_balanced_takes_half_winners_then_the_rarest_dissenters_and_drops_the_middle():
    election = hold("7", "7", "7", "7", "3", "3", "3", "4", "5", "5")
    assert select(election, 4, "balanced") == (0, 1, 7, 8)
    assert select(election, 6, "balanced") == (0, 1, 2, 7, 8, 9)


def test_balanced_takes_all_winners_where_there_are_few_and_fills_with_dissenters():
    assert select(hold("1", "2", "3", "4", "7", "7"), 6, "balanced") == (0, 1, 2, 3, 4, 5)
    assert select(hold("2", "3", "4", "7", "7", "5"), 5, "balanced") == (0, 1, 2, 3, 4)


def test_balanced_fills_with_winners_where_too_few_dissent():
    assert select(hold("1", "1", "1", "1", "1", "2"), 4, "balanced") == (0, 1, 2, 5)
    assert select(hold("1", "1", "1", "1"), 2, "balanced") == (0, 1)


def test_unread_rollouts_are_one_class_of_their_own_among_the_dissenters():
    election = hold("7", "7", "7", "7", "7", None, None, None, "3", "3", "4")
    assert select(election, 6, "balanced") == (0, 1, 2, 8, 9, 10)
    assert select(election, 8, "balanced") == (0, 1, 2, 3, 5, 8, 9, 10)


def test_an_election_without_a_winner_trains_on_the_first():
    assert select(hold("1", "2", "3", "3", "1"), 3, "balanced") == (0, 1, 2)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="no selection"):
        select(hold("1"), 1, "last")  # type: ignore[arg-type]  # the point of the test


@given(ANSWERS, st.data())
def test_exactly_k_different_rollouts_are_trained_and_winners_never_crowd_out_dissenters(answers, data):
    num_trained = data.draw(st.integers(1, len(answers)))
    election = hold(*answers)
    chosen = select(election, num_trained, "balanced")
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == num_trained
    winning = election.winning_class
    if winning is not None:
        winners = len(set(chosen) & set(winning.members))
        assert winners >= min(winning.count, num_trained // 2)
        if winners > num_trained // 2:
            assert set(chosen) | set(winning.members) == set(range(len(answers))), "all dissenters are in"
