"""From hidden states to the log-probabilities of given tokens, without ever holding tokens x vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ttrl_engine.memory import HEAD_CHUNK as HEAD_CHUNK

# Architectures whose logits are exactly `lm_head(last_hidden_state)`; others scale or cap them, so they go through
# their own forward and hold full logits.
PLAIN_HEADS = (
    "GemmaForCausalLM",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """(N, V) logits and (N,) tokens in, (N,) log-probabilities at the temperature out, in float32."""
    logits = logits.float()
    scaled = logits if temperature == 1.0 else logits / temperature
    return -F.cross_entropy(scaled, targets, reduction="none")


def chunked_logprobs(hidden_T: Tensor, head: torch.nn.Linear, targets_T: Tensor, temperature: float) -> Tensor:
    """`token_logprobs(head(hidden))`, made in chunks, forward and backward."""

    def score(hidden: Tensor, targets: Tensor) -> Tensor:
        return token_logprobs(head(hidden), targets, temperature)

    step = max(1, HEAD_CHUNK[hidden_T.device.type] // head.out_features)
    if len(targets_T) <= step:
        return score(hidden_T, targets_T)
    parts = [
        checkpoint(score, hidden_T[at : at + step], targets_T[at : at + step], use_reentrant=False)
        for at in range(0, len(targets_T), step)
    ]
    return torch.cat(parts)
