"""Where a model runs, in which number format, and how it is read from disk."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.config import HardwareConfig, ModelConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.models import resolve_source


def load_model(
    source: str, revision: str | None, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal LM and its tokenizer. Only safetensors; code from the model folder is never run.

    Raises ModelError with the reason.
    """
    place = resolve_source(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            place, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as failure:
        first = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise ModelError(f"The model {source} cannot be loaded: {first}") from failure
    if hasattr(model.config, "rescale_every"):
        # RWKV would divide its deeper weights in place at the first evaluation, and save them like that.
        model.config.rescale_every = 0
    model.to(device)  # type: ignore[arg-type]  # a wrapped method whose wrapper lost its self
    return model, tokenizer


def choose_device(hardware: HardwareConfig) -> torch.device:
    """The device the config asks for. Raises RunError where it asks for a GPU that is not there."""
    if hardware.device == "cpu" or (hardware.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RunError("The config asks for a CUDA GPU, but PyTorch sees none. Choose device `auto` or `cpu`.")
    return torch.device("cuda")


def choose_dtype(model: ModelConfig, device: torch.device) -> torch.dtype:
    """The number format of the weights in memory."""
    # Steps of a usual learning rate vanish in bfloat16, so weights that are trained in place stay float32.
    if model.method == "full" or model.dtype == "float32":
        return torch.float32
    if model.dtype == "bfloat16" or (device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return torch.float32
