"""A model small enough for a test and real in every part: a random Llama with a character tokenizer, on disk."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

CHARACTERS = ["<pad>", "<end>", *string.digits, *string.ascii_letters, *" \n+-*/=.,:?!()[]{}\\$^_'%"]


def write_tiny_model(
    folder: Path, seed: int = 0, spread: float = 0.4, architecture: PretrainedConfig | None = None
) -> Path:
    """Weights drawn with a wide spread, so that its distributions are far from uniform and samples differ.

    A Llama, unless another architecture is given, whose vocabulary must hold CHARACTERS.
    """
    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(CHARACTERS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    from tokenizers.decoders import Fuse

    tokenizer.decoder = Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "Q: {{ messages[-1]['content'] }}\nA:"
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = architecture or LlamaConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=1,
        bos_token_id=None,
        pad_token_id=0,
        initializer_range=spread,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
    return folder
