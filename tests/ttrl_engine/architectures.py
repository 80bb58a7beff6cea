"""Tiny random models of several architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

tf: Any = transformers

VOCABULARY = 97
_ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.4,
    **_ENDS,
}
_SMALL = {key: value for key, value in _COMMON.items() if key not in ("num_attention_heads", "intermediate_size")}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaConfig(**_COMMON, num_key_value_heads=1),
    # Several groups of several heads.
    "qwen2": lambda: tf.Qwen2Config(**{**_COMMON, "num_attention_heads": 4}, num_key_value_heads=2),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.4, **_ENDS
    ),
    "gemma": lambda: tf.GemmaConfig(**_COMMON, num_key_value_heads=1, head_dim=16),
    "gemma2": lambda: tf.Gemma2Config(**_COMMON, num_key_value_heads=1, head_dim=16, sliding_window=6),
    "mistral": lambda: tf.MistralConfig(**_COMMON, num_key_value_heads=1, sliding_window=6),
    "falcon": lambda: tf.FalconConfig(**_SMALL, num_attention_heads=2),
    "falcon-alibi": lambda: tf.FalconConfig(**_SMALL, num_attention_heads=2, alibi=True),
    "bloom": lambda: tf.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.4, **_ENDS
    ),
    "mamba": lambda: tf.MambaConfig(**_SMALL, state_size=4),
    "openai-gpt": lambda: tf.OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.4, **_ENDS
    ),
    "rwkv": lambda: tf.RwkvConfig(**_SMALL, attention_hidden_size=32, context_length=128, rescale_every=0),
    "recurrent-gemma": lambda: tf.RecurrentGemmaConfig(
        **{**_COMMON, "num_hidden_layers": 3},
        num_key_value_heads=1,
        head_dim=16,
        lru_width=32,
        attention_window_size=8,
        conv1d_width=4,
    ),
}
# What reads a text in both directions, or in any order, and is still loaded as a causal language model.
NOT_CAUSAL: dict[str, Callable[[], Any]] = {
    "xlnet": lambda: tf.XLNetConfig(
        vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=2, d_inner=48, initializer_range=0.4, **_ENDS
    ),
    "bert": lambda: tf.BertConfig(**_COMMON, is_decoder=False),
}


def make(name: str) -> PreTrainedModel:
    """A model with random weights, wide enough that its distributions differ."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config({**CONFIGS, **NOT_CAUSAL}[name]()).eval()
    return model
