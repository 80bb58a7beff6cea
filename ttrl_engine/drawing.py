"""Tokens from logits: one uniform number per token picks from the cumulative distribution, exactly and cheaply.

The usual race of exponential noise needs a random number per vocabulary entry, ten times the work on a CPU. And because
each rollout owns its numbers, stopping one changes nothing for another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ttrl_engine.sampler import SampleRequest


def uniforms(requests: Sequence[SampleRequest], max_new_tokens: int) -> list[Tensor]:
    """Per request (max_new_tokens, num_rollouts) numbers in [0, 1), drawn from its own stream on the CPU, so that they
    are the same on every device."""
    return [
        torch.rand(
            max_new_tokens, request.num_rollouts, generator=torch.Generator().manual_seed(request.stream), device="cpu"
        )
        for request in requests
    ]


def draw(logits: Tensor, uniforms_R: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """One token per row of (R, vocabulary) float32 logits, which are overwritten, with its log-probability under the
    distribution that it was drawn from."""
    if temperature != 1.0:
        logits.div_(temperature)
    if top_p < 1.0:
        logits = nucleus(logits, top_p)
    probabilities = torch.softmax(logits, dim=-1)
    cumulated = probabilities.cumsum(dim=-1)
    # Scaled by the rounded total, so that the target lies below the last entry.
    targets = uniforms_R[:, None] * cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, targets, right=True).clamp_(max=logits.shape[-1] - 1)
    drawn = probabilities.gather(1, tokens)
    if logits.is_cuda:
        # A parallel sum need not rise strictly; a token of no probability that it lets through gives way to the best.
        best, best_tokens = probabilities.max(dim=-1, keepdim=True)
        tokens, drawn = torch.where(drawn > 0, tokens, best_tokens), torch.where(drawn > 0, drawn, best)
    return tokens[:, 0], drawn[:, 0].log()


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches top_p; the token that crosses it stays."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    outside = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return torch.full_like(logits, -torch.inf).scatter(-1, order, ordered.masked_fill(outside, -torch.inf))
