"""From rewards to advantages: how much better than its problem's other rollouts a rollout did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

AdvantageMode: TypeAlias = Literal["mean", "standardised"]

# Added to the deviation by the official code, and so part of the published settings.
DEVIATION_EPSILON = 1e-6


def advantages(rewards: Sequence[float], mode: AdvantageMode) -> list[float]:
    """(K,) rewards of one problem's trained rollouts in, (K,) advantages out; equal rewards give exact zeros.

    `mean` subtracts the mean (Dr. GRPO, arXiv 2503.20783); `standardised` divides that by the unbiased standard
    deviation + 1e-6 (GRPO, arXiv 2402.03300). Raises ValueError for an unknown mode.
    """
    if mode not in ("mean", "standardised"):
        raise ValueError(f"There is no advantage {mode!r}.")
    if not rewards or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if mode == "mean":
        return centred
    deviation = math.sqrt(math.fsum(value * value for value in centred) / (len(rewards) - 1))
    return [value / (deviation + DEVIATION_EPSILON) for value in centred]
