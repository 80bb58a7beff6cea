"""From an election to rewards, and from rewards to advantages: how much better than its problem's other rollouts a
rollout did. No function here takes a reference answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from ttrl_engine.config import VoteConfig
from ttrl_engine.sampler import stream_of
from ttrl_engine.vote import Election, rewards

AdvantageMode: TypeAlias = Literal["mean", "standardised"]

# Added to the deviation by the official code, and so part of the published settings.
DEVIATION_EPSILON = 1e-6


def earned(election: Election, vote: VoteConfig, seed: int, step: int) -> list[float]:
    """(N,) rewards in sampling order, between -1 and 1.

    `majority` pays 1 to the members of the winning class (TTRL, arXiv 2504.16084); `soft` pays every answer the share
    of its class of all N (arXiv 2601.21804); both pay 0 to a rollout without an answer. An election that abstained
    pays nothing, except that under weak consensus (`min_consensus` or `min_margin` not reached) and with a
    `negative_share`, answers of classes of at most that share earn -1 (SCRL, arXiv 2603.19880). `random` draws every
    rollout's reward by lot out of those that agreement would pay: as much reward in expectation, and nothing about the
    answer in it, a control (arXiv 2506.10947). The lot hangs on seed, step, problem and rollout alone.
    """
    if vote.reward == "soft" and election.winner is not None:
        return _by_class(election, {each.key: each.count / election.num_rollouts for each in election.classes})
    weak = election.consensus < vote.min_consensus or election.margin < vote.min_margin
    if election.winner is None and weak:
        rare = [each for each in election.classes if each.count / election.num_rollouts <= vote.negative_share]
        agreed = _by_class(election, {each.key: -1.0 for each in rare})
    else:
        agreed = rewards(election)
    return _by_lot(agreed, election.problem_id, seed, step) if vote.reward == "random" else agreed


def _by_class(election: Election, paid: Mapping[str, float]) -> list[float]:
    """(N,) the pay of each rollout's class; 0 where it has none."""
    result = [0.0] * election.num_rollouts
    for each in election.classes:
        for index in each.members:
            result[index] = paid.get(each.key, 0.0)
    return result


def _by_lot(agreed: Sequence[float], problem_id: str, seed: int, step: int) -> list[float]:
    """(N,) for each rollout the reward of one of the N, drawn with replacement."""
    num = len(agreed)
    return [agreed[stream_of(seed, "reward", step, problem_id, index) % num] for index in range(num)]


def advantages(paid: Sequence[float], mode: AdvantageMode) -> list[float]:
    """(K,) rewards of one problem's trained rollouts in, (K,) advantages out; equal rewards give exact zeros.

    `mean` subtracts the mean (Dr. GRPO, arXiv 2503.20783); `standardised` divides that by the unbiased standard
    deviation + 1e-6 (GRPO, arXiv 2402.03300). Raises ValueError for an unknown mode.
    """
    if mode not in ("mean", "standardised"):
        raise ValueError(f"There is no advantage {mode!r}.")
    if not paid or min(paid) == max(paid):
        return [0.0] * len(paid)
    mean = math.fsum(paid) / len(paid)
    centred = [reward - mean for reward in paid]
    if mode == "mean":
        return centred
    deviation = math.sqrt(math.fsum(value * value for value in centred) / (len(paid) - 1))
    return [value / (deviation + DEVIATION_EPSILON) for value in centred]
