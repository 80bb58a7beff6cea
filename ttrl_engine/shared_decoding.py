"""Decoding in which all the rows of a problem look at one copy of its prompt.

A row that is asked for one token attends to thousands of numbers for a handful of multiplications: reading them is what
takes the time. The rows of one problem ask the same prompt, so their questions make one matrix product of it, and only
what each row wrote itself is read row by row. The result is the ordinary softmax over both (as in cascade and
"Hydragen" attention, arXiv 2402.05099), exact up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from ttrl_engine.attention import attending
from ttrl_engine.decoding import PlainDecoder
from ttrl_engine.row_cache import UnservableCacheError

NAME = "ttrl_shared"
# PyTorch multiplies batches of smaller matrices in a plain loop, slower than element by element.
SMALLEST_PRODUCT = 400


@dataclass(frozen=True)
class Rows:
    """Which rows ask which prompt: `places` (prompts, most rows of one) holds rows, `back` (rows) the place of each in
    the flattened `places`. Both None where every prompt has as many rows, in order."""

    places: Tensor | None
    back: Tensor | None

    @staticmethod
    def of(owners: Sequence[int], num_prompts: int, device: torch.device) -> Rows:
        """`owners` holds each row's prompt."""
        rows: list[list[int]] = [[] for _ in range(num_prompts)]
        for row, owner in enumerate(owners):
            rows[owner].append(row)
        most = max(len(each) for each in rows)
        if all(len(each) == most for each in rows) and list(owners) == sorted(owners):
            return Rows(None, None)
        back = [0] * len(owners)
        for owner, each in enumerate(rows):
            for index, row in enumerate(each):
                back[row] = owner * most + index
        places = [each + [0] * (most - len(each)) for each in rows]
        return Rows(torch.tensor(places, device=device), torch.tensor(back, device=device))


@dataclass
class Prompts:
    """What the attention of a step needs: per layer the prompts' keys and values (prompts, heads, longest, width), who
    asks which, and (prompts, 1, 1, longest) minus infinity at padding, or None."""

    layers: list[tuple[Tensor, Tensor]]
    bias: Tensor | None
    rows: Rows


def shared_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  # every row sees all of its prompt and all of its own tokens
    scaling: float | None = None,
    prompts: Prompts | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface for one new token a row: (rows, heads, 1, width) in, (rows, 1, heads, width)
    out; `key` and `value` (rows, key heads, tokens, width) are what the rows wrote themselves.

    Raises NotImplementedError for scores other than a plain softmax.
    """
    if prompts is None:
        raise NotImplementedError("the model does not hand its options on to the attention")
    if any(extra.get(name) is not None for name in ("softcap", "position_bias", "s_aux")):
        raise NotImplementedError("shared prompts have plain softmax scores only")
    num_rows, heads, _, width = query.shape
    key_heads = key.shape[1]
    query = query * (width**-0.5 if scaling is None else scaling)
    query = query.reshape(num_rows, key_heads, heads // key_heads, width)
    keys, values = prompts.layers[module.layer_idx]
    scores = torch.matmul(_by_prompt(query, prompts.rows, len(keys)), keys.transpose(2, 3))
    if prompts.bias is not None:
        scores = scores + prompts.bias
    longest = scores.shape[-1]
    scores = torch.cat([_by_row(scores, prompts.rows, num_rows), _ask(query, key)], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    seen = torch.matmul(_by_prompt(weights[..., :longest], prompts.rows, len(keys)), values)
    out = _by_row(seen, prompts.rows, num_rows) + _answer(weights[..., longest:], value)
    return out.reshape(num_rows, 1, heads, width), None


def _by_prompt(x: Tensor, rows: Rows, num_prompts: int) -> Tensor:
    """(rows, key heads, group, n) to (prompts, key heads, rows of a prompt * group, n)."""
    placed = x if rows.places is None else x[rows.places.flatten()]
    return placed.reshape(num_prompts, -1, *x.shape[1:]).transpose(1, 2).flatten(2, 3)


def _by_row(x: Tensor, rows: Rows, num_rows: int) -> Tensor:
    """What `_by_prompt` did, back."""
    num_prompts, heads, _, width = x.shape
    most = num_rows // num_prompts if rows.places is None else rows.places.shape[1]
    placed = x.reshape(num_prompts, heads, most, -1, width).transpose(1, 2).flatten(0, 1)
    return placed if rows.back is None else placed[rows.back]


def _ask(query: Tensor, key: Tensor) -> Tensor:
    """(rows, key heads, group, tokens) scores of each row against its own tokens."""
    if query.shape[2] * query.shape[3] * key.shape[2] < SMALLEST_PRODUCT:
        return (query[:, :, :, None] * key[:, :, None]).sum(dim=-1)
    return torch.matmul(query, key.transpose(2, 3))


def _answer(weights: Tensor, value: Tensor) -> Tensor:
    """(rows, key heads, group, width): each row's own values, weighted."""
    if weights.shape[2] * weights.shape[3] * value.shape[3] < SMALLEST_PRODUCT:
        return (weights[..., None] * value[:, :, None]).sum(dim=3)
    return torch.matmul(weights, value)


class SharedDecoder(PlainDecoder):
    """A `Decoder` for models of full attention that know a token by the position they are told. Raises
    UnservableCacheError for another."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        if not self.takes_positions or not self.cache.plain:
            raise UnservableCacheError("attention to a part of the row, or positions counted by the cache")
        self.prompts = Prompts([], None, Rows(None, None))
        self.owners: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]], sources: Tensor, room: int) -> Tensor:
        """See `Decoder.start`."""
        logits, mask, _ = self.read(prompts)
        device = logits.device
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=logits.dtype, device=device).masked_fill_(mask == 0, -torch.inf)
            bias = bias[:, None, None].to(self.model.dtype)
        self.owners = sources.tolist()
        self.prompts = Prompts(
            self.cache.set_apart(len(self.owners), room), bias, Rows.of(self.owners, len(prompts), device)
        )
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.positions = lengths[sources][:, None] - 1
        return logits[sources]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        assert self.positions is not None
        self.positions += 1
        with attending(self.model, NAME):
            return self._forward(tokens[:, None], None, self.positions, prompts=self.prompts)

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """See `Decoder.move`."""
        assert self.positions is not None
        self.cache.move(sources, holes, rows)
        self.positions[holes] = self.positions[sources]
        self.positions = self.positions[:rows]
        for source, hole in zip(sources.tolist(), holes.tolist(), strict=True):
            self.owners[hole] = self.owners[source]
        del self.owners[rows:]
        if self.owners:
            self.prompts.rows = Rows.of(self.owners, len(self.prompts.layers[0][0]), self.positions.device)

    def forget(self, everything: bool = False) -> None:
        """See `Decoder.forget`."""
        super().forget(everything)
        self.prompts = Prompts([], None, Rows(None, None))
        self.owners = []


AttentionInterface.register(NAME, shared_attention)
