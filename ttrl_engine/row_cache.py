"""The key-value cache of a batch whose rows come and go: buffers with room ahead, rows moved instead of copied.

The library's own dynamic cache concatenates at every token, which on a CPU took most of the time of sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

# Room for so many tokens, or an eighth of those held, is made at a time. More would save copies, but rows that lie far
# apart are slower to attend to than what is saved (measured on a CPU with 8 to 64).
ROOM = 16


class UnservableCacheError(Exception):
    """The model keeps a state that cannot be repeated, moved and cut row by row."""


class BufferedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values (rows, heads, tokens, width) as views into larger buffers.

    Until `spread` it holds the prompts, one row each, just as the model computed them.
    """

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the new tokens of every row; returns all keys and values so far."""
        if self._buffers is None:
            self.is_initialized = True
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        rows, length = self.keys.shape[0], self.keys.shape[2]
        end = length + key_states.shape[2]
        if end > self._buffers[0].shape[2]:
            self._make_room(rows, end + max(ROOM, end // 8))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, length:end] = new
        self._show(rows, end)
        return self.keys, self.values

    def spread(self, sources: Tensor, room: int) -> None:
        """Row i becomes a copy of row `sources[i]`, with room for so many tokens more."""
        if self.keys is None:
            return
        length = self.keys.shape[2]
        self._buffers = self._empty(len(sources), length + min(room, ROOM))
        for buffer, states in zip(self._buffers, (self.keys, self.values), strict=True):
            buffer[:, :, :length] = states[sources]
        self._show(len(sources), length)

    def set_apart(self, rows: int, room: int) -> tuple[Tensor, Tensor]:
        """Hand out the prompts' keys and values, and hold no token yet of so many rows."""
        # A product with a view would copy it at every token.
        prompts = self.keys.contiguous(), self.values.contiguous()
        self._buffers = self._empty(rows, min(room, ROOM))
        self._show(rows, 0)
        return prompts

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """Copy rows `sources` into rows `holes`, then keep the first `rows`."""
        if self._buffers is None:
            return
        length = self.keys.shape[2]
        if len(sources):
            for buffer in self._buffers:
                buffer[holes, :, :length] = buffer[sources, :, :length]
        self._show(rows, length)

    def _make_room(self, rows: int, capacity: int) -> None:
        length = self.keys.shape[2]
        self._buffers = self._empty(rows, capacity)
        for buffer, states in zip(self._buffers, (self.keys, self.values), strict=True):
            buffer[:, :, :length] = states
        self._show(rows, length)

    def _empty(self, rows: int, capacity: int) -> tuple[Tensor, Tensor]:
        shapes = [(rows, states.shape[1], capacity, states.shape[3]) for states in (self.keys, self.values)]
        return self.keys.new_empty(shapes[0]), self.values.new_empty(shapes[1])

    def _show(self, rows: int, length: int) -> None:
        assert self._buffers is not None
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self._buffers)


class RowCache(DynamicCache):
    """A cache that `spread` repeats over rows and `move` compacts, for models of full and sliding attention.

    Raises UnservableCacheError for any other kind of state (recurrent, compressed, quantised).
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        layers: list[Any] = self.layers
        for layer in layers:
            if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer):
                raise UnservableCacheError(type(layer).__name__)
        self.layers: list[Any] = [BufferedLayer() if type(layer) is DynamicLayer else layer for layer in layers]

    @property
    def plain(self) -> bool:
        """Whether every layer attends to every token."""
        return all(isinstance(layer, BufferedLayer) for layer in self.layers)

    @property
    def bytes_per_token(self) -> int:
        """Of one row, in all layers."""
        held = [states for layer in self.layers for states in (layer.keys, layer.values) if states is not None]
        return sum(states.shape[1] * states.shape[3] * states.element_size() for states in held)

    def join(self, others: Sequence[RowCache]) -> None:
        """Take over the rows of caches that have read as many tokens and were not spread either."""
        if not others:
            return
        for layers in zip(self.layers, *(other.layers for other in others), strict=True):
            if layers[0].keys is not None:
                # One at a time, so that little is held twice.
                for name in ("keys", "values"):
                    whole = torch.cat([getattr(layer, name) for layer in layers])
                    for layer in layers:
                        setattr(layer, name, None)
                    setattr(layers[0], name, whole)

    def spread(self, sources: Tensor, room: int) -> None:
        """Row i becomes a copy of row `sources[i]`; room for up to so many tokens more is made at once."""
        for layer in self.layers:
            if isinstance(layer, BufferedLayer):
                layer.spread(sources, room)
            elif layer.is_initialized:
                layer.batch_select_indices(sources)

    def set_apart(self, rows: int, room: int) -> list[tuple[Tensor, Tensor]]:
        """Per layer the prompts' keys and values, to be kept elsewhere; the cache then begins with each row's own first
        token. For `plain` caches."""
        return [layer.set_apart(rows, room) for layer in self.layers]

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """Copy rows `sources` into rows `holes`, then keep the first `rows`."""
        kept: Tensor | None = None
        for layer in self.layers:
            if isinstance(layer, BufferedLayer):
                layer.move(sources, holes, rows)
            elif layer.is_initialized:
                if kept is None:
                    kept = torch.arange(rows, device=holes.device)
                    kept[holes] = sources
                layer.batch_select_indices(kept)
