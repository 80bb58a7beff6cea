"""Rollouts laid out for one forward pass: padded rows, or one packed row without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainRow:
    """One rollout that enters the update. `old_logprobs` are the sampler's, one per completion token."""

    prompt_ids: tuple[int, ...]
    tokens: tuple[int, ...]
    old_logprobs: tuple[float, ...]
    advantage: float

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.tokens)


@dataclass(frozen=True)
class Padded:
    """Rows side by side, padded on the right to the longest; under a causal mask the padding is never seen.

    `ids` is (B, width). `places` are the positions, in the flattened (B x width), that predict the completion tokens
    `targets`, both (N,), row after row in the order of `rows`.
    """

    rows: tuple[TrainRow, ...]
    ids: Tensor
    places: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of a pack that see themselves causally and, before that, all of another segment: a completion
    sees the prompt that it shares. `prefix` is the number of that segment, None for a prompt or a row of its own."""

    start: int
    length: int
    prefix: int | None = None


@dataclass(frozen=True)
class Pack:
    """Rows one behind the other in a single sequence without padding.

    `ids` and `positions` are (1, T): a completion's positions go on from its prompt's, wherever that lies. The last
    token of a row predicts nothing that is trained, so it is left out. `places` and `targets` are as in `Padded`.
    """

    rows: tuple[TrainRow, ...]
    ids: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor
    segments: tuple[Segment, ...]
    shares_prompts: bool


def padded_batches(rows: Sequence[TrainRow], max_tokens: int) -> Iterator[list[TrainRow]]:
    """Rows sorted by length and cut so that rows x longest stays within `max_tokens` (at least one row each)."""
    batch: list[TrainRow] = []
    for row in sorted(rows, key=lambda row: row.length, reverse=True):
        if batch and (len(batch) + 1) * batch[0].length > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def packed_batches(rows: Sequence[TrainRow], max_tokens: int, share: bool) -> Iterator[list[TrainRow]]:
    """Rows cut so that the tokens of each pack stay within `max_tokens` (at least one row each).

    With `share`, rows of one prompt come one behind the other, longest first, and the prompt counts once per pack.
    """

    def order(row: TrainRow) -> tuple[tuple[int, ...], int]:
        return (row.prompt_ids if share else (), -row.length)

    batch: list[TrainRow] = []
    tokens = 0
    for row in sorted(rows, key=order):
        repeated = share and bool(batch) and batch[-1].prompt_ids == row.prompt_ids
        cost = row.length - 1 - (len(row.prompt_ids) if repeated else 0)
        if batch and tokens + cost > max_tokens:
            yield batch
            batch, tokens, cost = [], 0, row.length - 1
        batch.append(row)
        tokens += cost
    if batch:
        yield batch


def pad(rows: Sequence[TrainRow], device: torch.device) -> Padded:
    """Lay rows out side by side."""
    width = max(row.length for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    places: list[int] = []
    for index, row in enumerate(rows):
        ids[index, : row.length] = torch.tensor(row.prompt_ids + row.tokens)
        # Position p predicts token p + 1, so completion token j is scored at position len(prompt) - 1 + j.
        first = index * width + len(row.prompt_ids) - 1
        places += range(first, first + len(row.tokens))
    return Padded(tuple(rows), ids.to(device), torch.tensor(places).to(device), _targets(rows).to(device))


def pack(rows: Sequence[TrainRow], share: bool, device: torch.device) -> Pack:
    """Lay rows out one behind the other; with `share`, neighbours of the same prompt behind one copy of it."""
    ids: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    segments: list[Segment] = []
    neighbours = groupby(rows, key=lambda row: row.prompt_ids) if share else ((row.prompt_ids, [row]) for row in rows)
    for prompt, members in neighbours:
        start, size, shared = len(ids), len(prompt), len(segments)
        ids += prompt
        positions += range(size)
        if share:
            segments.append(Segment(start, size))
        for row in members:
            inner = row.tokens[:-1]
            if not share:
                segments.append(Segment(start, size + len(inner)))
            elif inner:
                segments.append(Segment(len(ids), len(inner), prefix=shared))
            places += [start + size - 1, *range(len(ids), len(ids) + len(inner))]
            ids += inner
            positions += range(size, size + len(inner))
    return Pack(
        rows=tuple(rows),
        ids=torch.tensor([ids]).to(device),
        positions=torch.tensor([positions]).to(device),
        places=torch.tensor(places).to(device),
        targets=_targets(rows).to(device),
        segments=tuple(segments),
        shares_prompts=share,
    )


def _targets(rows: Sequence[TrainRow]) -> Tensor:
    return torch.tensor([token for row in rows for token in row.tokens])
