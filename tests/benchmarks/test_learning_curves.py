"""The verdict on two sets of learning curves must be able to fall either way."""

from __future__ import annotations

import random

import pytest

from benchmarks.learning_curves import compare_curves


def curves(mean: float, spread: float, seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    return [[mean + offset + rng.uniform(-0.01, 0.01) for _ in range(10)] for offset in (-spread, 0.0, spread)]


def test_curves_from_one_source_agree():
    found = compare_curves(curves(0.7, 0.02, seed=1), curves(0.7, 0.02, seed=2))
    assert found.agree
    assert 0.0 < found.half_width < 0.1


def test_curves_further_apart_than_their_seeds_differ():
    found = compare_curves(curves(0.6, 0.02, seed=1), curves(0.8, 0.02, seed=2))
    assert not found.agree
    assert found.difference == pytest.approx(0.2, abs=0.01)
    assert "DIFFER" in found.lines()[-1]


def test_the_interval_is_welchs():
    # Areas 0.1, 0.2, 0.3 and 0.4, 0.6, 0.8: error sqrt(0.01 / 3 + 0.04 / 3), 2.94 degrees of freedom, taken as 2.
    found = compare_curves([[0.1], [0.2], [0.3]], [[0.4], [0.6], [0.8]])
    assert found.difference == pytest.approx(0.4)
    assert found.half_width == pytest.approx(4.303 * (0.05 / 3) ** 0.5)


def test_equal_curves_without_any_noise_agree():
    assert compare_curves([[0.5], [0.5]], [[0.5], [0.5]]).agree
