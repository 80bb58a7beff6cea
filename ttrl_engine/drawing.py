"""Tokens from logits: one uniform number per token picks from the cumulative distribution, exactly and cheaply.

The usual race of exponential noise needs a random number per vocabulary entry, ten times the work on a CPU. And because
each rollout owns its numbers, stopping one changes nothing for another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ttrl_engine.sampler import SampleRequest

# A nucleus is looked for among so many of the likeliest tokens first, and in so many numbers at a time.
LIKELIEST = 1024
NUMBERS_AT_ONCE = 1 << 24


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
    """Keep the smallest set of tokens whose probability reaches top_p; the token that crosses it stays. Of tokens that
    are equally likely the ones of lower number come first. The (R, vocabulary) logits are overwritten and returned."""
    for part in torch.split(logits, max(1, NUMBERS_AT_ONCE // logits.shape[-1])):
        if logits.shape[-1] <= LIKELIEST:
            _cut(part, top_p)
            continue
        larger = _cut_among_likeliest(part, top_p).nonzero()[:, 0]
        if len(larger):
            rest = part[larger]
            _cut(rest, top_p)
            part[larger] = rest
    return logits


def _cut(logits: Tensor, top_p: float) -> None:
    """Everything outside the nucleus to minus infinity, by sorting it all."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    outside = _outside(ordered.softmax(dim=-1), top_p)
    logits.scatter_(-1, order, ordered.masked_fill_(outside, -torch.inf))


def _cut_among_likeliest(logits: Tensor, top_p: float) -> Tensor:
    """The same in those rows whose nucleus lies among the likeliest tokens, without sorting the others. Returns which
    (R) rows have a larger one; they are left as they are."""
    likeliest = logits.topk(LIKELIEST, dim=-1, sorted=False).indices.sort(dim=-1).values
    ordered, by = logits.gather(-1, likeliest).sort(dim=-1, descending=True, stable=True)
    order = likeliest.gather(-1, by)
    outside = _outside(logits.softmax(dim=-1).gather(-1, order), top_p)
    # A token as likely as the last one taken might be among the others and have a lower number.
    last = ordered.masked_fill(outside, torch.inf).amin(dim=-1, keepdim=True)
    larger = ~(ordered[:, -1:] < last)
    logits.masked_fill_(~larger, -torch.inf)
    logits.scatter_(-1, order, ordered.masked_fill_(outside & ~larger, -torch.inf))
    return larger[:, 0]


def _outside(probabilities: Tensor, top_p: float) -> Tensor:
    """Of (R, n) falling probabilities, those that follow others which reach top_p together."""
    return probabilities.cumsum(dim=-1) - probabilities >= top_p
