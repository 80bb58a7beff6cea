"""Rewards of every kind and advantages, against hand-computed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ttrl_engine.test_vote import hold
from ttrl_engine.config import VoteConfig
from ttrl_engine.reward import advantages, earned
from ttrl_engine.vote import rewards

SPELLINGS = ["1", "1.0", "2", "3", "4", None]
ANSWERS = st.lists(st.sampled_from(SPELLINGS), min_size=2, max_size=24)


def pay(*answers, seed=0, step=1, **options) -> list[float]:
    """What an election over raw answers pays under options of the vote."""
    vote = VoteConfig(num_votes=2, num_trained=2, **options)
    election = hold(*answers, tie=vote.tie, min_consensus=vote.min_consensus, min_margin=vote.min_margin)
    return earned(election, vote, seed, step)


# --- rewards


def test_majority_pays_the_winners_and_is_the_default():
    assert pay("1", "1.0", "2", None) == [1, 1, 0, 0]
    assert pay("1", "2") == [0, 0]


def test_soft_pays_every_answer_the_share_of_its_class_and_none_without_an_answer():
    assert pay("1", "1.0", "1", "2", "2", "3", None, None, reward="soft") == [3 / 8] * 3 + [2 / 8] * 2 + [1 / 8, 0, 0]


def test_soft_pays_nothing_where_the_vote_abstains():
    assert pay("1", "1", "2", "2", reward="soft") == [0] * 4
    assert pay("1", "1", "2", None, reward="soft", min_consensus=0.6) == [0] * 4


def test_rare_answers_are_fined_where_a_threshold_makes_the_vote_abstain():
    weak = {"min_consensus": 0.6, "negative_share": 0.25}
    assert pay("1", "1", "1", "2", "2", "3", None, None, **weak) == [0, 0, 0, -1, -1, -1, 0, 0]
    assert pay("1", "1", "1", "1", "1", "2", None, None, **weak) == [1, 1, 1, 1, 1, 0, 0, 0], "strong consensus"
    assert pay("1", "1", "1", "2", "2", "3", None, None, min_consensus=0.6) == [0] * 8, "off unless asked for"


def test_a_tie_is_fined_only_where_it_misses_a_threshold_too():
    assert pay("1", "1", "2", "2", "3", min_consensus=0.4, negative_share=0.2) == [0] * 5
    assert pay("1", "1", "2", "2", "3", min_consensus=0.5, negative_share=0.2) == [0, 0, 0, 0, -1]
    assert pay(None, None, min_consensus=0.5, negative_share=0.2) == [0, 0]


@pytest.mark.parametrize("num_rollouts", [7, 10, 29, 64, 100])
def test_a_class_exactly_at_the_share_is_fined(num_rollouts):
    for count in range(1, num_rollouts // 3):
        answers = ["1"] * count + [str(i) for i in range(10, 10 + num_rollouts - count)]
        assert pay(*answers, min_consensus=1.0, negative_share=count / num_rollouts)[0] == -1


@given(ANSWERS, st.integers(0, 10), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["majority", "soft", "random"]))
def test_rewards_lie_between_minus_1_and_1_and_only_abstentions_fine(answers, step, least, negative, reward):
    paid = pay(*answers, step=step, reward=reward, min_consensus=max(least, 0.01), negative_share=negative)
    assert len(paid) == len(answers)
    assert all(-1 <= each <= 1 for each in paid)
    agreed = pay(*answers, min_consensus=max(least, 0.01), negative_share=negative)
    if reward == "random":
        assert set(paid) <= set(agreed)
    if any(each < 0 for each in paid):
        assert max(paid) <= 0


def test_the_lot_pays_as_much_as_agreement_in_expectation_and_knows_no_answer():
    answers = ["1"] * 24 + ["2"] * 8
    draws = [pay(*answers, step=step, reward="random") for step in range(400)]
    winners = sum(sum(draw[:24]) for draw in draws) / (24 * 400)
    others = sum(sum(draw[24:]) for draw in draws) / (8 * 400)
    # 3 standard errors of the share 0.75 in 9,600 and in 3,200 draws
    assert winners == pytest.approx(0.75, abs=0.014)
    assert others == pytest.approx(0.75, abs=0.023)


def test_the_lot_hangs_on_seed_step_problem_and_rollout_alone():
    answers = ["1"] * 16 + ["2"] * 16
    once = pay(*answers, "1", seed=3, step=5, reward="random")
    assert once == pay(*answers, "1", seed=3, step=5, reward="random")
    assert once != pay(*answers, "1", seed=4, step=5, reward="random")
    assert once != pay(*answers, "1", seed=3, step=6, reward="random")


def test_the_default_reward_is_that_of_the_vote():
    election = hold("1", "1.0", "2")
    assert earned(election, VoteConfig(), 0, 1) == rewards(election)


# --- advantages


def test_mean_subtracts_the_problems_mean():
    assert advantages([1, 0, 0, 0], "mean") == [0.75, -0.25, -0.25, -0.25]


@pytest.mark.parametrize(
    ("winners", "winner", "loser"), [(1, 5.48, -0.18), (8, 1.70, -0.57), (16, 0.98, -0.98), (31, 0.18, -5.48)]
)
def test_standardised_matches_the_published_recipe_for_32_rollouts(winners, winner, loser):
    result = advantages([1.0] * winners + [0.0] * (32 - winners), "standardised")
    assert result[0] == pytest.approx(winner, abs=0.006)
    assert result[-1] == pytest.approx(loser, abs=0.006)


@given(st.floats(-1e3, 1e3), st.integers(0, 40), st.sampled_from(["mean", "standardised"]))
def test_equal_rewards_give_exact_zeros(reward, count, mode):
    assert advantages([reward] * count, mode) == [0.0] * count


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), min_size=1, max_size=64),
    st.sampled_from(["mean", "standardised"]),
)
def test_advantages_of_a_problem_sum_to_zero(rewards, mode):
    assert sum(advantages(rewards, mode)) == pytest.approx(0, abs=1e-9)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="median"):
        advantages([1, 0], "median")  # type: ignore[arg-type]  # the point of the test
