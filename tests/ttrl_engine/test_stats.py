"""Rates and their uncertainty, against values computed by hand or by enumeration."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.stats import (
    avg_at_k,
    bootstrap_interval,
    maj_at_k,
    mcnemar_exact,
    paired_gain,
    pass_at_k,
    wilson_interval,
)  # fmt: skip


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_sample(case):
    num_samples, num_correct, k = case
    draws = list(itertools.combinations([True] * num_correct + [False] * (num_samples - num_correct), k))
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_stays_exact_for_many_samples():
    assert pass_at_k(1024, 1, 512) == pytest.approx(0.5)
    assert pass_at_k(64, 10, 16) == pytest.approx(1 - comb(54, 16) / comb(64, 16))


@pytest.mark.parametrize("case", [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_at_k_refuses_what_is_not_defined(case):
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(*case)


def test_averages_are_means_over_problems_whatever_their_number_of_samples():
    assert avg_at_k([1, 4], [2, 16]) == 0.375
    assert maj_at_k([True, False, False, True]) == 0.5


def test_means_of_nothing_are_refused_and_never_0():
    for call in (
        lambda: avg_at_k([], []),
        lambda: maj_at_k([]),
        lambda: bootstrap_interval([], 0),
        lambda: paired_gain([], [], 0),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()


def test_the_bootstrap_is_repeatable_and_close_to_the_normal_interval():
    values = [0.0, 1.0] * 100
    low, high = bootstrap_interval(values, 7)
    assert bootstrap_interval(values, 7) == (low, high)
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 200**0.5, abs=0.012)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 200**0.5, abs=0.012)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(list((generator.random(60) < 0.4).astype(float)), seed, num_resamples=400)
        covered += low <= 0.4 <= high
    assert 180 <= covered <= 199


def test_memory_is_bounded_for_many_problems():
    low, high = bootstrap_interval([0.0, 1.0] * 25_000, 0, num_resamples=100)
    assert 0.49 < low < 0.5 < high < 0.51


def test_equal_values_do_not_pretend_to_certainty():
    assert bootstrap_interval([1.0] * 60, 0) == pytest.approx((0.05 ** (1 / 60), 1.0))
    assert bootstrap_interval([0.0] * 60, 0) == pytest.approx((0.0, 1 - 0.05 ** (1 / 60)))
    assert bootstrap_interval([0.5], 0) == pytest.approx((0.025, 0.975))


def test_a_gain_is_paired_per_problem():
    before, after = [0.0, 0.5, 1.0, 0.25] * 10, [0.5, 1.0, 1.0, 0.75] * 10
    gain, low, high = paired_gain(before, after, 3)
    assert gain == 0.375
    # The pairs differ by 0 or 0.5 only; unpaired, the spread of the problems themselves would widen this threefold.
    assert 0.28 < low < 0.375 < high < 0.45


def test_no_change_anywhere_is_a_gain_of_0_that_is_not_certain():
    gain, low, high = paired_gain([0.3] * 50, [0.3] * 50, 0)
    assert gain == 0
    assert -0.07 < low < 0 < high < 0.07


def test_a_gain_needs_the_same_problems():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_gain([0.1, 0.2], [0.1], 0)


@pytest.mark.parametrize(
    ("lost", "won", "p"), [(0, 0, 1.0), (0, 5, 0.0625), (5, 0, 0.0625), (1, 9, 22 / 1024), (4, 4, 1.0)]
)
def test_mcnemar_is_the_exact_two_sided_binomial_test(lost, won, p):
    assert mcnemar_exact(lost, won) == pytest.approx(p)


def test_mcnemar_takes_large_counts_and_refuses_negative_ones():
    assert 0 < mcnemar_exact(4000, 4500) < 1e-6
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_wilson_matches_the_textbook():
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
