"""Rates with their uncertainty: avg@k, maj@k, pass@k, bootstrap intervals over problems, paired tests.

Problems, not rollouts, are resampled: rollouts of one problem are not independent evidence about others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
LEVEL = 0.95
# Bounds the memory of one block of resampled indexes (8 bytes each).
_BLOCK_SIZE = 2_000_000


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that k of the samples, drawn without replacement, hold a right one (unbiased; arXiv 2107.03374).

    Raises ValueError unless 1 <= k <= num_samples and 0 <= num_correct <= num_samples.
    """
    if not (1 <= k <= num_samples and 0 <= num_correct <= num_samples):
        raise ValueError(f"pass@{k} is not defined for {num_correct} right of {num_samples} samples.")
    if num_samples - num_correct < k:
        return 1.0
    wrong = 1.0
    for i in range(num_samples - num_correct + 1, num_samples + 1):
        wrong *= 1.0 - k / i
    return 1.0 - wrong


def avg_at_k(num_correct: Sequence[int], num_samples: Sequence[int]) -> float:
    """Mean over problems of each problem's share of right samples: pass@1. Raises ValueError without problems."""
    return _mean([right / total for right, total in zip(num_correct, num_samples, strict=True)])


def maj_at_k(majority_correct: Sequence[bool]) -> float:
    """Share of problems whose majority answer is right. Raises ValueError without problems."""
    return _mean([float(correct) for correct in majority_correct])


def bootstrap_interval(
    values: Sequence[float],
    seed: int,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float]:
    """95 % percentile interval of the mean of one value per problem; the same seed gives the same interval.

    Equal values (or a single one) would give an interval without width, which claims too much: then it is the
    rule-of-three interval within `bounds`, the range a value can have. Raises ValueError without values.
    """
    if not values:
        raise ValueError("An interval needs at least one problem.")
    data = np.asarray(values, dtype=np.float64)
    if data.min() == data.max():
        # With confidence 95 %, at most this share of the population differs from n equal observations.
        unseen = 1.0 - (1.0 - LEVEL) ** (1.0 / len(data))
        value = float(data[0])
        return value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    means = _resampled_means(data, np.random.default_rng(seed), num_resamples)
    low, high = np.quantile(means, [(1.0 - LEVEL) / 2, (1.0 + LEVEL) / 2])
    return float(low), float(high)


def paired_gain(before: Sequence[float], after: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Mean of after - before per problem, with its 95 % bootstrap interval: (gain, low, high).

    Both hold one share per problem, in the same order. Raises ValueError if they differ in length or are empty.
    """
    differences = [b - a for a, b in zip(before, after, strict=True)]
    low, high = bootstrap_interval(differences, seed, bounds=(-1.0, 1.0))
    return _mean(differences), low, high


def mcnemar_exact(num_lost: int, num_won: int) -> float:
    """Two-sided p-value that losses (right before, wrong after) and wins are equally likely; 1 if there are none."""
    total = num_lost + num_won
    if min(num_lost, num_won) < 0:
        raise ValueError("Counts are not negative.")
    ways, tail = 1, 0
    for i in range(min(num_lost, num_won) + 1):
        tail += ways
        ways = ways * (total - i) // (i + 1)  # the binomial coefficient of i + 1
    return min(1.0, 2 * tail / (1 << total))  # integer / integer: exact before it is rounded once


def wilson_interval(num_correct: int, num_samples: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share; (0, 1), nothing known, without samples."""
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"{num_correct} right of {num_samples} is no share.")
    if num_samples == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # the normal quantile of 97.5 %
    share = num_correct / num_samples
    centre = share + z * z / (2 * num_samples)
    spread = z * math.sqrt(share * (1 - share) / num_samples + (z / (2 * num_samples)) ** 2)
    scale = 1 + z * z / num_samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("A mean over problems needs at least one.")
    return math.fsum(values) / len(values)


def _resampled_means(
    data: NDArray[np.float64], generator: np.random.Generator, num_resamples: int
) -> NDArray[np.float64]:
    per_block = max(1, _BLOCK_SIZE // len(data))
    blocks = []
    for start in range(0, num_resamples, per_block):
        rows = min(per_block, num_resamples - start)
        indexes = generator.integers(0, len(data), size=(rows, len(data)))
        blocks.append(data[indexes].mean(axis=1))
    return np.concatenate(blocks)
