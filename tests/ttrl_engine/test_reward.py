"""Advantages against hand-computed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.reward import advantages


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


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=64), st.sampled_from(["mean", "standardised"]))
def test_advantages_of_a_problem_sum_to_zero(rewards, mode):
    assert sum(advantages(rewards, mode)) == pytest.approx(0, abs=1e-9)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="median"):
        advantages([1, 0], "median")  # type: ignore[arg-type]  # the point of the test
