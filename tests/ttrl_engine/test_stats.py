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
    difference_interval,
    maj_at_k,
    mcnemar_exact,
    paired_gain,
    pass_at_k,
    rate_interval,
    sampling_noise,
    sign_flip_test,
    wilson_interval,
)


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
        lambda: rate_interval([]),
        lambda: difference_interval([]),
        lambda: paired_gain([], []),
        lambda: sign_flip_test([]),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()


def test_a_rate_of_many_problems_has_the_normal_interval():
    low, high = rate_interval([0.0, 1.0] * 500)
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 1000**0.5, abs=1e-3)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 1000**0.5, abs=1e-3)


def test_more_samples_per_problem_narrow_the_interval_of_a_rate():
    def width(shares):
        low, high = rate_interval(shares)
        return high - low

    assert width([0.4, 0.6] * 15) < width([0.0, 1.0] * 15)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_problems", [1, 2, 60])
def test_equal_shares_do_not_pretend_to_certainty(value: float, num_problems: int):
    low, high = rate_interval([value] * num_problems)
    assert 0 <= low <= value <= high <= 1
    assert high - low > 0.9 / num_problems


def test_the_interval_of_differences_is_students():
    values = [0.1, 0.3, -0.2, 0.4, 0.0, 0.6]
    half = 2.570582 * np.std(values, ddof=1) / 6**0.5
    assert difference_interval(values) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    two = difference_interval([0.1, 0.2])
    assert two == pytest.approx((0.15 - 12.706205 * 0.05, 0.15 + 12.706205 * 0.05))


def test_an_interval_never_leaves_what_is_possible():
    assert difference_interval([1.0, -1.0]) == (-1.0, 1.0)
    assert difference_interval([0.5]) == pytest.approx((-0.925, 0.975))


def test_a_gain_is_paired_per_problem():
    before, after = [0.0, 0.5, 1.0, 0.25] * 10, [0.5, 1.0, 1.0, 0.75] * 10
    gain, low, high = paired_gain(before, after)
    assert gain == 0.375
    # The pairs differ by 0 or 0.5 only; unpaired, the spread of the problems themselves would widen this threefold.
    assert 0.28 < low < 0.375 < high < 0.45


def test_no_change_anywhere_is_a_gain_of_0_that_is_not_certain():
    gain, low, high = paired_gain([0.3] * 50, [0.3] * 50)
    assert gain == 0
    assert -0.07 < low < 0 < high < 0.07


def test_a_gain_needs_the_same_problems():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_gain([0.1, 0.2], [0.1])


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


def by_enumeration(differences):
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(each >= abs(sum(differences)) for each in sums) / len(sums)


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=9))
def test_the_sign_flip_test_counts_all_signs(differences):
    assert sign_flip_test(differences) == pytest.approx(by_enumeration(differences), abs=1e-12)


def test_one_answer_per_problem_makes_the_sign_flip_test_mcnemars():
    assert sign_flip_test([1] * 9 + [-1] * 2 + [0] * 30) == pytest.approx(mcnemar_exact(2, 9))


def test_where_the_table_would_be_too_long_the_normal_limit_takes_over(monkeypatch: pytest.MonkeyPatch):
    values = [int(value) for value in np.random.default_rng(0).integers(-8, 9, size=4000)]
    exact = sign_flip_test(values)
    monkeypatch.setattr("ttrl_engine.stats._LONGEST_TABLE", 64)
    assert 0.05 < exact < 0.95
    assert sign_flip_test(values) == pytest.approx(exact, abs=2e-3)


def test_a_p_value_is_never_0():
    assert sign_flip_test([16] * 200) == pytest.approx(2.0**-199)


def test_noise_holds_nearly_all_pairs_of_scorings_of_one_policy():
    generator = np.random.default_rng(1)
    rates = generator.beta(0.8, 0.8, size=60)
    inside = []
    for _ in range(1000):
        first, second = generator.binomial(8, rates), generator.binomial(8, rates)
        band = sampling_noise(first.tolist(), [8] * 60)
        inside.append(abs(first.mean() - second.mean()) / 8 <= band)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_one_sample_shows_no_noise():
    assert sampling_noise([1, 0], [1, 1]) is None
    assert sampling_noise([], []) is None
