"""Which decoder serves a model: tried on a few tokens and compared with plain forward passes, not guessed by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.decoding import Decoder, PlainDecoder
from ttrl_engine.row_cache import UnservableCacheError
from ttrl_engine.static_decoding import StaticDecoder

# Of the spread of the logits. Rounding stays far below it, a wrong cache far above it.
TOLERANCE = {torch.float32: 1e-3}
COARSE_TOLERANCE = 0.2


@dataclass(frozen=True)
class Choice:
    """The decoder for a model; None where only `generate` is left. `pads`: whether prompts of unequal length may share
    a batch. `note` tells the user about a choice that is slower than usual."""

    decoder: Decoder | None
    pads: bool
    bytes_per_token: int
    note: str | None = None


@torch.inference_mode()
def choose_decoder(model: PreTrainedModel, record: bool | None = None) -> Choice:
    """The fastest decoder whose logits agree with the model's own. `record` (by default: on a GPU) asks for CUDA
    graphs."""
    note = None
    if model.device.type == "cuda" if record is None else record:
        found, why = _tried(lambda: StaticDecoder(model, record=model.device.type == "cuda"), model, pads=True)
        if found is not None:
            return Choice(found, True, _bytes_per_token(model))
        note = f"CUDA graphs cannot be used for this model ({why}), so sampling is somewhat slower."
    for pads in (True, False):
        found, why = _tried(lambda: PlainDecoder(model), model, pads)
        if found is not None:
            return Choice(found, pads, _bytes_per_token(model), note)
    name = type(model).__name__
    return Choice(
        None,
        False,
        0,
        f"{name} keeps a state that cannot be repeated and cut row by row ({why}), so it samples with the library's "
        "`generate`: every row runs until the longest has ended, which takes several times as long.",
    )


def _tried(make: Callable[[], Decoder], model: PreTrainedModel, pads: bool) -> tuple[Decoder | None, str]:
    """The decoder where it passes, else None and the reason."""
    try:
        decoder = make()
        deviation = _deviation(decoder, model, pads)
    except torch.OutOfMemoryError:
        raise
    # What a model's own code raises when it is called in a way that it was not written for can be any of these.
    except (
        UnservableCacheError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as failure:
        return None, str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    if deviation > TOLERANCE.get(model.dtype, COARSE_TOLERANCE):
        return None, f"its logits are off by {deviation:.2g} of their spread"
    return decoder, ""


def _deviation(decoder: Decoder, model: PreTrainedModel, pads: bool) -> float:
    """Largest difference to forward passes without a cache, in units of the logits' spread: two prompts, two rows
    each, two tokens, and the second row dropped in between."""
    embeddings: Any = model.get_input_embeddings()
    vocabulary = int(embeddings.num_embeddings)
    ids = [3 + (7 * i) % max(1, vocabulary - 3) for i in range(12)]
    prompts = [ids[:7], ids[7:12] if pads else ids[5:12]]
    tokens = [ids[2:6], ids[6:10]]

    def on_device(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=model.device)

    decoder.start(prompts, on_device([0, 0, 1, 1]), 4)
    decoder.step(on_device(tokens[0]))
    decoder.move(on_device([3]), on_device([1]), 3)
    rows = [(0, 0), (1, 3), (1, 2)]
    found = decoder.step(on_device([tokens[1][row] for _, row in rows]))
    worst = 0.0
    for logits, (prompt, row) in zip(found, rows, strict=True):
        whole = [*prompts[prompt], tokens[0][row], tokens[1][row]]
        expected = model(input_ids=on_device(whole)[None], use_cache=False).logits[0, -1].float()
        worst = max(worst, float((logits - expected).abs().max() / expected.std()))
    return worst if worst == worst else float("inf")


def _bytes_per_token(model: PreTrainedModel) -> int:
    """Of keys and values of one row, measured on two tokens."""
    reader = PlainDecoder(model)
    reader.read([[3, 3]])
    return reader.cache.bytes_per_token
