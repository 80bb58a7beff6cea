"""Decoding without a cache: for every token the whole text is read again.

The last resort for models whose cache is of no use, and exact by construction: it runs what the update runs. Rows are
still dropped as they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.decoding import last_logits, read_positions


class RereadingDecoder:
    """Any causal LM, prompts of one length, on any device."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.options: dict[str, Any] = {"use_cache": False, **last_logits(model)}
        self.positions = read_positions(model)
        self.ids = torch.zeros(0, 0, dtype=torch.long, device=model.device)

    def start(self, prompts: Sequence[Sequence[int]], sources: Tensor, room: int) -> Tensor:  # noqa: ARG002  # no cache
        """See `Decoder.start`."""
        read = torch.tensor([list(prompt) for prompt in prompts], device=self.model.device)
        self.ids = read[sources]
        return self._logits(read)[sources]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        return self._logits(self.ids)

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """See `Decoder.move`."""
        self.ids[holes] = self.ids[sources]
        self.ids = self.ids[:rows]

    def forget(self, everything: bool = False) -> None:  # noqa: ARG002  # the protocol's
        """See `Decoder.forget`."""
        self.ids = self.ids[:0]

    def _logits(self, ids: Tensor) -> Tensor:
        parts = torch.split(ids, max(1, self.positions // ids.shape[1]))
        return torch.cat([self.model(input_ids=part, **self.options).logits[:, -1].float() for part in parts])
