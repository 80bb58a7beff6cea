"""Calibration of the vote: is a label that 80 % of the rollouts agree on right 80 % of the time?

Only measures: it takes numbers that are known after a vote, and nothing that computes a reward imports it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ttrl_engine.stats import wilson_interval

FINE_BINS, COARSE_BINS = 10, 5
# Below it ten bins would hold too few labels each to say anything.
_ENOUGH_FOR_FINE = 200


@dataclass(frozen=True)
class Bin:
    """The labels with a consensus from `low` to below `high` (the last bin holds 1 too). `low_95` and `high_95` are
    the Wilson interval of `accuracy`; `consensus` is their mean."""

    low: float
    high: float
    num_labels: int
    num_correct: int
    consensus: float
    low_95: float
    high_95: float

    @property
    def accuracy(self) -> float:
        """Share of the labels that are right."""
        return self.num_correct / self.num_labels


@dataclass(frozen=True)
class Calibration:
    """`bins` that hold labels, lowest consensus first.

    `error` is the expected calibration error (ECE; Guo et al., arXiv 1706.04599): the mean over labels of
    |accuracy - consensus| of their bin. Few labels make it large by luck alone: `chance_error` is its mean if every
    label were right with exactly the probability of its consensus.
    """

    bins: tuple[Bin, ...]
    num_labels: int
    num_correct: int
    consensus: float
    error: float
    chance_error: float

    @property
    def accuracy(self) -> float:
        """Share of all labels that are right."""
        return self.num_correct / self.num_labels


def calibration(consensus: Sequence[float], correct: Sequence[bool], num_bins: int | None = None) -> Calibration:
    """Consensus (0 to 1) against correctness, one of each per label.

    Bins are of equal width: 10 from 200 labels on, else 5. Raises ValueError without labels or for unequal lengths.
    """
    if not consensus:
        raise ValueError("A calibration needs at least one label.")
    count = num_bins or (FINE_BINS if len(consensus) >= _ENOUGH_FOR_FINE else COARSE_BINS)
    held: dict[int, list[tuple[float, bool]]] = {}
    for share, right in zip(consensus, correct, strict=True):
        held.setdefault(min(count - 1, int(share * count)), []).append((share, right))
    bins, error, chance = [], 0.0, 0.0
    for place, labels in sorted(held.items()):
        shares, num_correct = [share for share, _ in labels], sum(right for _, right in labels)
        mean = math.fsum(shares) / len(shares)
        bins.append(
            Bin(
                place / count,
                (place + 1) / count,
                len(labels),
                num_correct,
                mean,
                *wilson_interval(num_correct, len(labels)),
            )
        )
        error += abs(num_correct - math.fsum(shares)) / len(consensus)
        chance += _mean_deviation(shares) / len(consensus)
    total = sum(each.num_correct for each in bins)
    return Calibration(tuple(bins), len(consensus), total, math.fsum(consensus) / len(consensus), error, chance)


def _mean_deviation(chances: Sequence[float]) -> float:
    """E|K - E K| of the number K of independent events with these chances, exactly: their Poisson binomial."""
    table: npt.NDArray[np.floating[Any]] = np.ones(1)
    for chance in chances:
        table = np.convolve(table, (1.0 - chance, chance))
    return float(table @ np.abs(np.arange(len(table)) - math.fsum(chances)))
