"""Log-probabilities of rollouts under a model: rows packed where the model allows it, padded where it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.attention import (
    MAX_FLASH_WIDTH,
    NAME,
    Layout,
    attending,
    longest_packable,
    ragged,
    side_by_side,
    varlen_kernel,
)
from ttrl_engine.head import PLAIN_HEADS, chunked_logprobs, token_logprobs
from ttrl_engine.packing import Pack, Padded, Segment, TrainRow, pack, packed_batches, pad, padded_batches

LayOut = Callable[[Sequence[Segment], torch.device], Layout]


class Scorer:
    """Lays out rows and runs a model on them.

    `autocast` computes in bfloat16 over float32 weights. Whether rows can be packed is found out once, by comparing
    hidden states on this very model and device; `lay_out` is None where they differ or the model refuses.
    """

    def __init__(self, model: PreTrainedModel, autocast: bool) -> None:
        self._autocast = autocast
        self._longest = longest_packable(model.config)
        self.device = model.device
        self.lay_out: LayOut | None = None
        if self._longest != 0:
            self.lay_out = next((each for each in self._layouts(model) if self._agrees(model, each)), None)

    def batches(self, rows: Sequence[TrainRow], max_tokens: int, share: bool) -> Iterator[list[TrainRow]]:
        """Micro-batches of at most `max_tokens` positions (one row at least), `share` counting a prompt once."""
        if self._packs(rows):
            return packed_batches(rows, max_tokens, share)
        return padded_batches(rows, max_tokens)

    def arrange(self, rows: Sequence[TrainRow], share: bool) -> Pack | Padded:
        """The rows, in this order, ready for one forward pass."""
        return pack(rows, share, self.device) if self._packs(rows) else pad(rows, self.device)

    def _packs(self, rows: Sequence[TrainRow]) -> bool:
        if self.lay_out is None:
            return False
        # A rank may have no rows.
        return self._longest is None or max((row.length for row in rows), default=0) <= self._longest

    def attending(self, model: PreTrainedModel, batch: Pack | Padded) -> contextlib.AbstractContextManager[None]:
        """The model's attention set for this batch. The backward pass belongs inside: it may run layers again."""
        return contextlib.nullcontext() if isinstance(batch, Padded) else attending(model, NAME)

    def logprobs(self, model: PreTrainedModel, batch: Pack | Padded, temperature: float) -> Tensor:
        """(N,) log-probabilities of the batch's targets in float32. Call it inside `attending`."""
        if type(model).__name__ in PLAIN_HEADS:
            hidden = self._run(model.base_model, batch).last_hidden_state
            chosen = hidden.reshape(-1, hidden.shape[-1])[batch.places]
            with self._half():
                return chunked_logprobs(chosen, model.lm_head, batch.targets, temperature)
        logits = self._run(model, batch).logits
        return token_logprobs(logits.reshape(-1, logits.shape[-1])[batch.places], batch.targets, temperature)

    def _run(self, module: torch.nn.Module, batch: Pack | Padded) -> Any:
        """The output of transformers. Never with a cache: its gradient is lost where activations are made again."""
        with self._half():
            if isinstance(batch, Padded):
                return module(input_ids=batch.ids, use_cache=False)
            assert self.lay_out is not None
            layout = self.lay_out(batch.segments, self.device)
            return module(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, layout=layout)

    def _half(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast)

    def _layouts(self, model: PreTrainedModel) -> list[LayOut]:
        """What may work here, the fastest first."""
        config = model.config
        heads = getattr(config, "num_attention_heads", None)
        if heads is None:
            # A recurrent model: one row's state would run on into the next.
            return []
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        half = self._autocast or model.dtype in (torch.bfloat16, torch.float16)
        flash = self.device.type == "cuda" and half and width <= MAX_FLASH_WIDTH and varlen_kernel() is not None
        return [ragged, side_by_side] if flash else [side_by_side]

    @torch.no_grad()
    def _agrees(self, model: PreTrainedModel, lay_out: LayOut) -> bool:
        """Whether packed rows with a shared prompt give the hidden states of padded ones."""
        vocabulary = int(model.config.vocab_size)
        tokens = [(7 * number + 3) % vocabulary for number in range(16)]
        rows = [
            TrainRow(tuple(tokens[:5]), tuple(tokens[at : at + count]), (0.0,) * count, 0.0)
            for at, count in ((5, 6), (8, 6), (2, 3))
        ]
        found = []
        self.lay_out = lay_out
        try:
            for batch in (pack(rows, True, self.device), pack(rows, False, self.device), pad(rows, self.device)):
                with self.attending(model, batch):
                    hidden = self._run(model.base_model, batch).last_hidden_state
                found.append(hidden.reshape(-1, hidden.shape[-1])[batch.places].float())
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        shared, packed, padded = found
        exact = model.dtype is torch.float32 and not self._autocast
        bound = (1e-4 if exact else 5e-2) * float(padded.norm())
        return max(float((shared - padded).norm()), float((packed - padded).norm())) <= bound
