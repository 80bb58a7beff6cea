"""Which decoder serves a model: tried on a few tokens and compared with plain forward passes, not guessed by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.decoding import Decoder, Part, PlainDecoder, Wave
from ttrl_engine.drawing import uniforms
from ttrl_engine.errors import RunError
from ttrl_engine.generate_sampler import generate
from ttrl_engine.rereading import RereadingDecoder
from ttrl_engine.row_cache import UnservableCacheError
from ttrl_engine.sampler import NO_WATCHER, SampleRequest, SamplingParams
from ttrl_engine.shared_decoding import SharedDecoder
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
    """The fastest decoder whose logits agree with the model's own, in one pass over whole texts as the update makes
    it. `record` (by default: on a GPU) asks for CUDA graphs. Raises RunError where none does."""
    note = None
    if model.device.type == "cuda" if record is None else record:
        found, why = _tried(lambda: StaticDecoder(model, record=model.device.type == "cuda"), model, pads=True)
        if found is not None:
            return Choice(found, True, _bytes_per_token(model))
        note = (
            f"CUDA graphs cannot be used for this model ({why}), so sampling is several times slower: the GPU waits "
            "for every single operation to be launched, which takes tens of milliseconds a token."
        )
    if model.device.type == "cpu":
        found, _ = _tried(lambda: SharedDecoder(model), model, pads=True)
        if found is not None:
            return Choice(found, True, _bytes_per_token(model), note)
    for pads in (True, False):
        found, why = _tried(lambda: PlainDecoder(model), model, pads)
        if found is not None:
            return Choice(found, pads, _bytes_per_token(model), note)
    return _without_row_cache(model, why)


def _without_row_cache(model: PreTrainedModel, why: str) -> Choice:
    """For a model whose state is not keys and values; `why` says what it is."""
    name = type(model).__name__
    told = f"{name} keeps a state that cannot be repeated and cut row by row ({why})"
    fault = _fault(lambda: _deviation_of_generate(model), model.dtype)
    if fault is None:
        return Choice(
            None,
            False,
            0,
            f"{told}, so it samples with the library's `generate`: every row runs until the longest has ended, which "
            "takes several times as long.",
        )
    found, reason = _tried(lambda: RereadingDecoder(model), model, pads=False)
    if found is not None:
        return Choice(
            found,
            False,
            0,
            f"{told}, and the library's `generate` cannot be trusted with it ({fault}), so every token is drawn from a "
            "new pass over the whole text: exact, but slower by about as many times as an answer has tokens.",
        )
    raise RunError(
        f"{name} cannot be trained: what it gives token by token is not what it gives to a whole text ({reason}), so "
        "the probabilities of its answers are not known. Take a causal language model that reads from left to right."
    )


def _tried(make: Callable[[], Decoder], model: PreTrainedModel, pads: bool) -> tuple[Decoder | None, str]:
    """The decoder where it passes, else None and the reason."""
    made: list[Decoder] = []

    def deviation() -> float:
        made.append(make())
        return _deviation(made[0], model, pads)

    fault = _fault(deviation, model.dtype)
    return (made[0], "") if fault is None else (None, fault)


def _fault(deviation: Callable[[], float], dtype: torch.dtype) -> str | None:
    """Why something cannot be used: what it raises, or how far it is off; None where it passes."""
    try:
        found = deviation()
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
        return str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    if found > TOLERANCE.get(dtype, COARSE_TOLERANCE):
        return f"its logits are off by {found:.2g} of their spread"
    return None


def _deviation(decoder: Decoder, model: PreTrainedModel, pads: bool) -> float:
    """Largest difference to forward passes without a cache, in units of the logits' spread: two prompts, two rows
    each, two tokens, and the second row dropped in between."""
    ids = _some_ids(model)
    prompts = [ids[:7], ids[7:12] if pads else ids[5:12]]
    tokens = [ids[2:6], ids[6:10]]

    def on_device(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=model.device)

    decoder.start(prompts, on_device([0, 0, 1, 1]), 4)
    decoder.step(on_device(tokens[0]))
    decoder.move(on_device([3]), on_device([1]), 3)
    rows = [(0, 0), (1, 3), (1, 2)]
    found = decoder.step(on_device([tokens[1][row] for _, row in rows]))
    gaps = []
    for logits, (prompt, row) in zip(found, rows, strict=True):
        whole = [*prompts[prompt], tokens[0][row], tokens[1][row]]
        expected = _logits(model, whole)[-1]
        gaps.append((logits - expected).abs().max() / _spread(expected))
    return _worst(gaps)


def _deviation_of_generate(model: PreTrainedModel) -> float:
    """The same for `generate`: of the log-probabilities of what it draws, for two prompts and two rows each."""
    ids = _some_ids(model)
    requests = [SampleRequest(tuple(ids[:7]), 2, 1), SampleRequest(tuple(ids[5:12]), 2, 2)]
    # A rare end, so that nearly all rows are drawn to their last token.
    params = SamplingParams(1.0, 1.0, 6, (max(ids),))
    parts = [Part(number, request, 0, 2) for number, request in enumerate(requests)]
    wave = Wave(parts, uniforms(requests, params.max_new_tokens), params, model.device, set())
    rollouts = generate(model, wave, NO_WATCHER, lambda _: None, lambda: False)
    gaps = []
    for (part, _), rollout in zip(wave.owners, rollouts, strict=True):
        prompt = part.request.prompt_ids
        expected = _logits(model, [*prompt, *rollout.tokens])[len(prompt) - 1 : -1]
        chosen = expected.log_softmax(-1).gather(1, torch.tensor(rollout.tokens, device=model.device)[:, None])[:, 0]
        drawn = torch.tensor(rollout.logprobs, device=model.device)
        gaps.append(((drawn - chosen).abs() / _spread(expected)).max())
    return _worst(gaps)


def _spread(logits: Tensor) -> Tensor:
    """(...) of (..., vocabulary) logits. Above 0, so that logits that are all alike are found equal to themselves."""
    return logits.std(dim=-1).clamp(min=torch.finfo(logits.dtype).tiny)


def _worst(gaps: list[Tensor]) -> float:
    """The largest of numbers; infinite where one is not a number, which `max` over floats would pass over."""
    return float(torch.stack(gaps).max().nan_to_num(torch.inf))


def _logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """(tokens, vocabulary) float32 logits of a text, out of one pass over more than the text: as in an update, what
    follows must not change them."""
    whole = torch.tensor([[*ids, *ids[:2]]], device=model.device)
    logits: Tensor = model(input_ids=whole, use_cache=False).logits[0, : len(ids)].float()
    return logits


def _some_ids(model: PreTrainedModel) -> list[int]:
    embeddings: Any = model.get_input_embeddings()
    return [3 + (7 * i) % max(1, int(embeddings.num_embeddings) - 3) for i in range(12)]


def _bytes_per_token(model: PreTrainedModel) -> int:
    """Of keys and values of one row, measured on two tokens."""
    reader = PlainDecoder(model)
    reader.read([[3, 3]])
    return reader.cache.bytes_per_token
