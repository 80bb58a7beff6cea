"""An adapter merged into its base model: one folder of safetensors that every inference server loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.loading import load_model
from ttrl_engine.models import resolve_source
from ttrl_engine.sampler import StopRequested

STAGES = ("loading", "merging", "writing")
"""The names of the stages, in order."""

_PROBE = "What is 12 + 30? The answer is"
# Merging in float32 reorders sums; on a real model the logits agree to some 1e-4 of their spread.
_LARGEST_SHIFT = 0.01


def merge_adapter(
    config: RunConfig,
    weights: Path,
    folder: Path,
    on_stage: Callable[[str, int], None] = lambda _name, _done: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> float:
    """Write base model + adapter as one model, with its tokenizer, into `folder`.

    The sum is made in float32 on the CPU and kept in the number format of the base model's files. Before it is
    written, the merged model must answer a probe as the adapted one does; the largest difference of two logits over
    their standard deviation is returned. `on_stage` gets the name of a stage that begins and how many are done.
    Raises ModelError where something cannot be loaded, RunError where the merge changed the model, StopRequested.
    """
    if not (weights / "adapter_config.json").is_file():
        raise RunError("There is no adapter to merge: this run trained all weights, or its files were removed.")
    on_stage("loading", 0)
    source, revision = config.model.source, config.model.revision
    stored = AutoConfig.from_pretrained(resolve_source(source), revision=revision, trust_remote_code=False).dtype
    model, tokenizer = load_model(source, revision, torch.float32, torch.device("cpu"))
    try:
        adapted = PeftModel.from_pretrained(model, str(weights))
    except (OSError, ValueError, RuntimeError) as failure:
        raise ModelError(f"The adapter cannot be loaded onto {source}: {failure}") from failure
    _stop_if(should_stop)
    on_stage("merging", 1)
    before = _probe(cast(PreTrainedModel, adapted.get_base_model()), tokenizer)
    merged = cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True))
    shift = float((_probe(merged, tokenizer) - before).abs().max() / before.std())
    if not shift <= _LARGEST_SHIFT:
        raise RunError(
            f"Merging changed what the model computes (by {shift:.1%} of the spread of its logits), so nothing was "
            "written. Serve the base model with the adapter beside it instead."
        )
    _stop_if(should_stop)
    on_stage("writing", 2)
    if isinstance(stored, torch.dtype):
        merged.to(stored)  # type: ignore[arg-type]  # a wrapped method whose wrapper lost its self
    merged.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    return shift


@torch.no_grad()
def _probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Logits of a short text, (tokens, vocabulary)."""
    model.eval()  # type: ignore[no-untyped-call]  # transformers' own
    ids = tokenizer(_PROBE, return_tensors="pt")["input_ids"]
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits.float()


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise StopRequested
