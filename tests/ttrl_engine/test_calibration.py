"""Consensus against correctness."""

from __future__ import annotations

import numpy as np
import pytest

from ttrl_engine.calibration import calibration
from ttrl_engine.stats import wilson_interval


def test_bins_hold_what_was_counted_by_hand():
    found = calibration([0.1, 0.5, 0.55, 0.9, 1.0], [False, True, False, True, True])
    assert [(each.low, each.num_labels, each.num_correct) for each in found.bins] == [
        (0, 1, 0),
        (0.4, 2, 1),
        (0.8, 2, 2),
    ]
    assert (found.bins[1].low_95, found.bins[1].high_95) == wilson_interval(1, 2)
    # |0 - 0.1| + |1 - 1.05| + |2 - 1.9|, over five labels
    assert found.error == pytest.approx((0.1 + 0.05 + 0.1) / 5)
    assert (found.num_correct, found.accuracy) == (3, 0.6)
    assert found.consensus == pytest.approx(0.61)


def test_a_consensus_of_one_is_in_the_last_bin_and_zero_in_the_first():
    found = calibration([0.0, 1.0], [False, True])
    assert [(each.low, each.high) for each in found.bins] == [(0.0, 0.2), (0.8, 1.0)]
    assert found.error == 0.0


def test_bins_are_finer_only_with_enough_labels():
    few, many = calibration([0.05] * 199, [True] * 199), calibration([0.05] * 200, [True] * 200)
    assert (few.bins[0].high, many.bins[0].high) == (0.2, 0.1)


def test_luck_alone_is_what_simulated_exact_votes_show():
    draw = np.random.default_rng(0)
    shares = draw.uniform(0.2, 1.0, 20)
    errors = [calibration(list(shares), list(draw.random(20) < shares)).error for _ in range(2000)]
    assert calibration(list(shares), [True] * 20).chance_error == pytest.approx(np.mean(errors), rel=0.03)


def test_overconfidence_is_told_from_luck():
    found = calibration([0.9] * 100, [i % 2 == 0 for i in range(100)])
    assert found.error == pytest.approx(0.4)
    assert found.error > 5 * found.chance_error


def test_what_is_no_calibration_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        calibration([], [])
    with pytest.raises(ValueError, match="zip"):
        calibration([0.5, 0.5], [True])
