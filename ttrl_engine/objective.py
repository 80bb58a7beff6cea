"""The loss: token-level policy gradient (GRPO, arXiv 2402.03300), with an optional pull towards the base.

One update per step is on-policy and takes `weighted_objective`; several take `clipped_objective`, whose ratio against
the sampler is an importance weight itself, held by the clip, so that no further cap applies.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A token of a disfavoured rollout whose ratio ran away contributes at most this many times its advantage
# (dual-clip PPO, arXiv 1912.09729; the official TTRL code uses the same constant).
DUAL_CLIP = 3.0


def weighted_objective(
    logprobs_T: Tensor, sampler_logprobs_T: Tensor, advantages_T: Tensor, cap: float | None
) -> tuple[Tensor, Tensor]:
    """Per-token loss and whether its weight was capped; all (T,). The gradient is -weight * advantage * dlogprob.

    The weight is min(trainer probability / sampler probability, cap), held constant (truncated importance sampling):
    1 where both compute alike, so it corrects only what the sampler computes otherwise. Without a cap it is 1.
    """
    difference = logprobs_T.detach() - sampler_logprobs_T
    weights = torch.ones_like(difference) if cap is None else torch.exp(difference).clamp(max=cap)
    capped = torch.zeros_like(difference, dtype=torch.bool) if cap is None else torch.exp(difference) > cap
    # The factor is 1 in value, and logprob in gradient, so the loss reads like that of the clipped objective.
    return -advantages_T * weights * (1.0 + logprobs_T - logprobs_T.detach()), capped


def clipped_objective(
    logprobs_T: Tensor, old_logprobs_T: Tensor, advantages_T: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Per-token loss and whether the clip was active; all (T,), flattened over the rollouts of a micro-batch.

    With `old == new` the ratio is 1 and the gradient is exactly that of -advantage * logprob.
    """
    ratio = torch.exp(logprobs_T - old_logprobs_T)
    free = -advantages_T * ratio
    held = -advantages_T * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss = torch.maximum(free, held)
    bounded = torch.minimum(loss, -advantages_T * DUAL_CLIP)
    loss = torch.where(advantages_T < 0, bounded, loss)
    return loss, (held > free).detach()


def k3_estimate(logprobs_T: Tensor, reference_T: Tensor) -> Tensor:
    """Per-token estimate of KL(policy || reference) from tokens drawn from the policy: exp(d) - d - 1 with
    d = reference - policy (Schulman's k3). Never negative, zero where both agree."""
    difference = reference_T - logprobs_T
    return torch.exp(difference) - difference - 1.0


def learning_rate(peak: float, update: int, total: int, warmup_share: float, schedule: str) -> float:
    """The rate of update number `update` (0-based) of `total`: linear warm-up, then constant or cosine to 0.

    A pure function of the position, so a resumed run needs no scheduler state.
    """
    warmup = int(warmup_share * total)
    if update < warmup:
        return peak * (update + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    progress = (update - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))))
