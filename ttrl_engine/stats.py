"""Rates with their uncertainty: avg@k, maj@k, pass@k, 95 % intervals over problems, paired tests, sampling noise.

Problems, not rollouts, are the sample: rollouts of one problem are not independent evidence about others. The
intervals are closed formulas and no bootstrap, whose percentile intervals cover too seldom with 30 problems;
`python -m benchmarks.intervals` simulates how often ours hold the truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

_Z = 1.959963984540054  # the normal quantile of 97.5 %
_T_OF_FEW = (12.706205, 4.302653, 3.182446, 2.776445)  # Student's, for 1 to 4 degrees of freedom
# Longest table of sums of the sign-flip test (8 bytes each); beyond it the normal limit differs by less than 1e-3.
_LONGEST_TABLE = 1 << 19


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


def rate_interval(shares: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of one share (0 to 1) per problem.

    Wilson's score interval for as many yes-or-no problems as would vary as much as these shares do (the effective
    sample size of surveys), with Student's quantile since the variance is estimated: it stays within 0 and 1, is
    lopsided near them, and has a width even where all shares are equal. Raises ValueError without shares.
    """
    mean = _mean(shares)
    variance = _variance(shares)
    alike = mean * (1.0 - mean) / variance if variance > 0 else 1.0
    return _wilson(mean, len(shares) * alike, _student(len(shares) - 1))


def difference_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % Student interval of the mean of one difference of shares (-1 to 1) per problem.

    Equal differences (or a single one) would give an interval without width, which claims too much: then up to
    1 - 0.05^(1/n) of all problems may differ from the n seen. Raises ValueError without differences.
    """
    mean = _mean(differences)
    if min(differences) == max(differences):
        unseen = 1.0 - 0.05 ** (1.0 / len(differences))
        return mean - unseen * (mean + 1.0), mean + unseen * (1.0 - mean)
    half = _student(len(differences) - 1) * math.sqrt(_variance(differences) / len(differences))
    return max(-1.0, mean - half), min(1.0, mean + half)


def paired_gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Mean of after - before per problem, with its 95 % interval: (gain, low, high).

    Both hold one share per problem, in the same order. Raises ValueError if they differ in length or are empty.
    """
    differences = [b - a for a, b in zip(before, after, strict=True)]
    low, high = difference_interval(differences)
    return _mean(differences), low, high


def sampling_noise(num_correct: Sequence[int], num_samples: Sequence[int]) -> float | None:
    """The A/A band of pass@1: 95 % of all scorings of one policy, twice on these problems, differ by no more.

    It holds the luck of the samples only, 1.96 · sqrt(2 Σ p(1-p)/(k-1)) / n with p = right / k, and not the luck of
    which problems were asked. None without problems or with a single sample of one of them, which shows no spread.
    """
    if not num_samples or min(num_samples) < 2:
        return None
    shares = [right / k for right, k in zip(num_correct, num_samples, strict=True)]
    spread = math.fsum(p * (1 - p) / (k - 1) for p, k in zip(shares, num_samples, strict=True))
    return _Z * math.sqrt(2 * spread) / len(shares)


def sign_flip_test(differences: Sequence[int]) -> float:
    """Two-sided p-value of a sum of whole differences, one per problem, if each could as well have the other sign.

    The paired permutation test of avg@k, for right answers of k of A minus those of B. Exact: the distribution of
    the sum over all 2^n signs is the Fourier transform of Π cos(θ d). Raises ValueError without differences.
    """
    if not differences:
        raise ValueError("A test over problems needs at least one.")
    observed = abs(sum(differences))
    sizes = Counter(abs(difference) for difference in differences if difference)
    reach = sum(size * count for size, count in sizes.items())
    if observed == 0:
        return 1.0
    if 2 * reach >= _LONGEST_TABLE:
        return math.erfc(observed / math.sqrt(2 * sum(size * size * count for size, count in sizes.items())))
    length = 1 << (2 * reach + 1).bit_length()
    angles = 2 * np.pi / length * np.arange(length // 2 + 1)
    spectrum = np.ones_like(angles)
    for size, count in sizes.items():
        spectrum *= np.cos(size * angles) ** count
    chances = np.fft.irfft(spectrum, length)
    tail = 2 * float(chances[observed : reach + 1].sum())
    # What was seen and its mirror image are two of the 2^m cases; below that is only rounding.
    return min(1.0, max(tail, math.ldexp(1.0, 1 - sizes.total())))


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
    return _wilson(num_correct / num_samples, num_samples, _Z)


def _wilson(share: float, size: float, quantile: float) -> tuple[float, float]:
    square = quantile * quantile
    centre = share + square / (2 * size)
    spread = quantile * math.sqrt(share * (1 - share) / size + square / (4 * size * size))
    scale = 1 + square / size
    # The share itself is always inside; at 0 and 1 rounding would put it just outside.
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))


def _student(freedom: int) -> float:
    """Student's 97.5 % quantile; from 5 degrees of freedom on by its expansion around the normal one, to 3 digits."""
    if freedom <= len(_T_OF_FEW):
        return _T_OF_FEW[max(0, freedom - 1)]
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("A mean over problems needs at least one.")
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    """Unbiased; 0 for a single value."""
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
