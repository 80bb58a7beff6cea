"""Decoding at fixed addresses, so that a GPU can replay a recorded step instead of launching every kernel anew.

A step of a small batch is limited by launches, not by arithmetic. The batch is rounded up to a bucket and the part of
the cache that is attended to likewise; one CUDA graph is recorded for each pair that comes up, and kept between waves
and steps, for an optimizer changes weights in place. No two run at a time, so they share the memory that they work in
and the buffer that they leave their logits in. On a CPU the same steps run without recording, as in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ttrl_engine.decoding import PlainDecoder
from ttrl_engine.memory import BLOCK as BLOCK
from ttrl_engine.memory import whole_blocks as whole_blocks
from ttrl_engine.out_of_memory import is_out_of_memory
from ttrl_engine.row_cache import UnservableCacheError

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def batch_bucket(rows: int) -> int:
    """The batch that so many rows run in: the next bucket, beyond the largest a multiple of it."""
    largest = BATCH_BUCKETS[-1]
    return next((bucket for bucket in BATCH_BUCKETS if rows <= bucket), -(-rows // largest) * largest)


def whole_batch(rows: int) -> int:
    """The largest batch of at most so many rows that runs without being rounded up; 0 for none."""
    largest = BATCH_BUCKETS[-1]
    if rows >= largest:
        return rows // largest * largest
    return max((bucket for bucket in BATCH_BUCKETS if bucket <= rows), default=0)


def window_bucket(tokens: int) -> int:
    """How much of the cache is attended to for so many tokens: whole blocks, and beyond 2,048 tokens whole eighths of
    the next power of two, so that long answers do not take a graph for every block."""
    step = max(BLOCK, (1 << (tokens - 1).bit_length()) // 8)
    return -(-tokens // step) * step


class _FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in one place; a step writes column `column` and sees the first `window`."""

    keys: Any
    values: Any

    def __init__(self, keys: Tensor, values: Tensor, column: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.column = keys, values, column
        self.is_initialized = True
        self.rows, self.window = keys.shape[0], keys.shape[2]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token per row."""
        keys, values = (states[: self.rows, :, : self.window] for states in (self.keys, self.values))
        keys.index_copy_(2, self.column, key_states)
        values.index_copy_(2, self.column, value_states)
        return keys, values


class StaticDecoder:
    """A `Decoder` for models of full attention. Raises UnservableCacheError for another.

    `record` makes CUDA graphs; without it every step runs eagerly. Where a recording fails later on, the rest runs
    eagerly too, and `note` says so.
    """

    def __init__(self, model: PreTrainedModel, record: bool) -> None:
        self.model, self.record = model, record
        self.reader = PlainDecoder(model)
        if not self.reader.takes_positions or not self.reader.cache.plain:
            raise UnservableCacheError("not every layer attends to every token")
        self.layers: list[_FixedLayer] = []
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        # Where graphs are recorded, what they work in, and whether one was ever recorded.
        self.aside: torch.cuda.Stream | None = None
        self.pool: Any = None
        self.recorded = False
        self.length = 0
        self.note: str | None = None
        self.cache: Any = None
        self.ids = self.positions = self.column = self.mask = self.logits = torch.empty(0)

    def start(self, prompts: Sequence[Sequence[int]], sources: Tensor, room: int) -> Tensor:
        """See `Decoder.start`."""
        logits, mask, positions = self.reader.read(prompts)
        self.length = self.reader.length
        rows = len(sources)
        self._make_room(batch_bucket(rows), whole_blocks(self.length + room), logits.shape[1])
        for layer, read in zip(self.layers, self.reader.cache.layers, strict=True):
            layer.keys[:rows, :, : self.length] = read.keys[sources]
            layer.values[:rows, :, : self.length] = read.values[sources]
        self.reader.cache.layers.clear()
        # Rows of a bucket that nobody uses see what they write themselves, so that nothing turns into NaN.
        self.mask.fill_(torch.finfo(self.mask.dtype).min)
        shown = torch.ones(rows, self.length, device=self.mask.device) if mask is None else mask[sources]
        self.mask[:rows, 0, 0, : self.length].masked_fill_(shown.bool(), 0.0)
        self.positions.zero_()
        self.positions[:rows] = self.length - 1 if positions is None else positions[sources]
        self.column.fill_(self.length - 1)
        return logits[sources]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        rows = len(tokens)
        self.length += 1
        self.ids[:rows, 0] = tokens
        self.positions += 1
        self.column += 1
        self.mask.index_fill_(3, self.column, 0.0)
        key = batch_bucket(rows), min(window_bucket(self.length), self.mask.shape[3])
        if self.record and key not in self.graphs:
            self._capture(*key)
        if key in self.graphs:
            self.graphs[key].replay()
        else:
            self._forward(*key)
        return self.logits[:rows]

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:  # noqa: ARG002  # the protocol's
        """See `Decoder.move`."""
        if len(sources) == 0:
            return
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[holes, :, : self.length] = states[sources, :, : self.length]
        self.mask[holes], self.positions[holes] = self.mask[sources], self.positions[sources]

    def forget(self, everything: bool = False) -> None:
        """See `Decoder.forget`. Graphs point into the cache, so both stay or both go."""
        if everything:
            self.graphs.clear()
            self.layers.clear()
            self.cache = self.pool = None
            self.ids = self.positions = self.column = self.mask = self.logits = torch.empty(0)

    def _make_room(self, rows: int, window: int, vocabulary: int) -> None:
        if self.layers and rows <= self.mask.shape[0] and window <= self.mask.shape[3]:
            return
        self.forget(everything=True)
        device, dtype = self.model.device, self.model.dtype
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.mask = torch.zeros(rows, 1, 1, window, dtype=dtype, device=device)
        self.logits = torch.zeros(rows, vocabulary, device=device)
        for read in self.reader.cache.layers:
            keys, values = (
                states.new_zeros(rows, states.shape[1], window, states.shape[3]) for states in (read.keys, read.values)
            )
            self.layers.append(_FixedLayer(keys, values, self.column))
        self.cache = DynamicCache()
        self.cache.layers = self.layers

    def _forward(self, rows: int, window: int) -> None:
        """One step, from `ids` to `logits`."""
        for layer in self.layers:
            layer.rows, layer.window = rows, window
        output = self.model(
            input_ids=self.ids[:rows],
            past_key_values=self.cache,
            attention_mask=self.mask[:rows, :, :, :window],
            position_ids=self.positions[:rows],
            **self.reader.options,
        )
        self.logits[:rows].copy_(output.logits[:, -1])

    def _capture(self, rows: int, window: int) -> None:
        """Record one step. It may run more than once: it writes the same column again."""
        # One stream for all, which keeps the workspace of its matrix products; one pool until all graphs are gone, as
        # a pool that no graph uses any more cannot be used again.
        if self.aside is None:
            self.aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        usual = torch.cuda.current_stream()
        self.aside.wait_stream(usual)
        with torch.cuda.stream(self.aside):
            for _ in range(2):
                self._forward(rows, window)
        usual.wait_stream(self.aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.aside):
                self._forward(rows, window)
        except RuntimeError as failure:
            # Where the end of a recording fails, PyTorch leaves the thread on the stream that it was made on.
            torch.cuda.set_stream(usual)
            if not self.recorded or is_out_of_memory(failure):
                raise
            self.record = False
            self.note = f"A CUDA graph could not be recorded ({failure}), so sampling goes on without new ones."
            return
        self.recorded = True
        self.graphs[rows, window] = graph
