"""LoRA weights beside a frozen model: added by peft, always float32, and folded into the weights where that is faster.

Beside its weight, an adapter of rank r costs two thin products and two sums per layer, forward and backward. Where r
is not small against the layer, W + s·B·A costs less: one product forward, and the chain rule gives A and B their
gradients from the gradient of the sum, once per update: dA = s·Bᵀ·dW, dB = s·dW·Aᵀ. The sampler saves even more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.config import ModelConfig

_ADAPTER = "default"
# Their kernels read these two weights past the layer, and with it past an adapter; peft refuses them there.
_MAMBA = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
_READ_DIRECTLY = ["conv1d", "out_proj"]


def add_lora(module: PreTrainedModel, model: ModelConfig) -> PeftModel:
    """An adapter on every linear layer but the head, and on Mambas but for the output of their mixers. Its first A is
    drawn from the global generator."""
    lora = LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha,
        target_modules="all-linear",
        exclude_modules=_READ_DIRECTLY if module.config.model_type in _MAMBA else None,
        task_type="CAUSAL_LM",
    )
    adapted = cast(PeftModel, get_peft_model(module, lora))
    # The name that the config gives, not where this machine keeps it: an adapter travels.
    adapted.peft_config[_ADAPTER].base_model_name_or_path = model.source
    return adapted


class FoldedLora:
    """Keeps every adapted weight at W + s·B·A, so that the adapter costs nothing forward. W is kept beside it."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self._layers = layers
        self._frozen = [_weight_of(layer).detach().clone() for layer in layers]
        for layer in layers:
            layer.merged_adapters = [_ADAPTER]  # peft then runs the base layer alone
        self.fold()

    @torch.no_grad()
    def fold(self) -> None:
        """Take over the adapter's current weights."""
        for (weight, a, b, scale), frozen in zip(self._parts(), self._frozen, strict=True):
            torch.addmm(frozen, b, a, alpha=scale, out=weight)

    @contextlib.contextmanager
    def unfolded(self) -> Iterator[None]:
        """The base model's own weights for a while, bit for bit."""
        folded = [weight.data for weight, *_ in self._parts()]
        try:
            for (weight, *_), frozen in zip(self._parts(), self._frozen, strict=True):
                weight.data = frozen
            yield
        finally:
            for (weight, *_), data in zip(self._parts(), folded, strict=True):
                weight.data = data

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """Backward passes inside leave their gradient at A and B when the block ends."""
        for weight, *_ in self._parts():
            weight.requires_grad_(True)
        try:
            yield
            for weight, a, b, scale in self._parts():
                if weight.grad is not None:
                    a.grad = (b.detach().T @ weight.grad).mul_(scale)
                    b.grad = (weight.grad @ a.detach().T).mul_(scale)
        finally:
            for weight, *_ in self._parts():
                weight.grad = None
                weight.requires_grad_(False)

    def _parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
        """W + s·B·A (out, in), A (rank, in), B (out, rank) and s of each layer."""
        for layer in self._layers:
            a, b = (cast(torch.nn.Linear, part[_ADAPTER]).weight for part in (layer.lora_A, layer.lora_B))
            yield _weight_of(layer), a, b, float(layer.scaling[_ADAPTER])


def _weight_of(layer: LoraLinear) -> Tensor:
    return cast(torch.nn.Linear, layer.base_layer).weight


def fold_where_faster(adapted: PeftModel, rank: int) -> FoldedLora | None:
    """The adapter folded in, or None where it is cheaper or more exact beside the weights.

    Only in float32: in bfloat16 the sum would lose the adapter's small steps. Per token and layer, forward and
    backward, an adapter beside costs 2·in·out + 3·rank·(in + out) products, one folded in 3·in·out.
    """
    layers = [part for part in adapted.modules() if isinstance(part, LoraLinear)]
    if not layers or any(not isinstance(layer.base_layer, torch.nn.Linear) for layer in layers):
        return None
    weights = [_weight_of(layer) for layer in layers]
    if any(weight.dtype is not torch.float32 or weight.device.type != "cpu" for weight in weights):
        return None
    if 3 * rank * sum(sum(weight.shape) for weight in weights) < sum(weight.numel() for weight in weights):
        return None
    return FoldedLora(layers)
