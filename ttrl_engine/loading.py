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


def has_bfloat16(device: torch.device) -> bool:
    """Whether it is a GPU that computes in bfloat16; older ones only imitate it, slowly."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def choose_dtype(model: ModelConfig, device: torch.device) -> torch.dtype:
    """The number format of the weights in memory."""
    # Steps of a usual learning rate vanish in bfloat16, so weights that are trained in place stay float32.
    if model.method == "full" or model.dtype == "float32":
        return torch.float32
    if model.dtype == "bfloat16" or has_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def sampling_dtype(model: ModelConfig, device: torch.device) -> torch.dtype:
    """The number format that the policy is sampled in: that of the products in its update."""
    if model.method == "full":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return choose_dtype(model, device)


def choose_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Of float32 products, in the whole process. Beside frozen weights in bfloat16 they are an adapter's, which a GPU
    makes in TensorFloat-32: more exact than the weights, and many times faster than float32."""
    half = device.type == "cuda" and dtype is torch.bfloat16
    torch.set_float32_matmul_precision("high" if half else "highest")
