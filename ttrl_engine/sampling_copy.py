"""A model in half precision beside float32 weights that are all trained: what the torch sampler runs on a GPU.

An update computes its products in bfloat16 over float32 weights. Sampling from these weights would compute in float32,
several times slower, with a cache of twice the size.
"""

from __future__ import annotations

import copy

import torch
from torch.nn import Parameter
from transformers import PreTrainedModel


class SamplingCopy:
    """`module` has the weights of `model` in bfloat16, tied ones once, and everything else as it is there. They stay at
    their addresses, so that recorded CUDA graphs remain valid; `refresh` takes over what has been trained."""

    def __init__(self, model: PreTrainedModel) -> None:
        weights = list(model.parameters())
        copies = [Parameter(weight.detach().to(torch.bfloat16), requires_grad=False) for weight in weights]
        self._pairs = list(zip(copies, weights, strict=True))
        # `deepcopy` finds them here in place of copies of its own, so that there is never a second set in float32.
        memo = {id(weight): own for own, weight in self._pairs}
        self.module = copy.deepcopy(model, memo)
        self.module.eval()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the current weights."""
        for own, weight in self._pairs:
            own.copy_(weight)
