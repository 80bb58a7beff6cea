"""Rollouts shown while they grow: the torch sampler, looked at between two tokens a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from transformers import PreTrainedModel

from ttrl_engine.decoding import Wave
from ttrl_engine.sampler import ShouldStop, Watcher
from ttrl_engine.torch_sampler import TorchSampler

LOOK_EVERY_S = 0.25
"""Often enough to read along; a look copies the tokens from the device, which training never does."""


@dataclass(frozen=True)
class Growing:
    """The tokens of one rollout so far, and whether it has ended."""

    index: int
    tokens: tuple[int, ...]
    ended: bool


OnGrowth: TypeAlias = Callable[[Sequence[Growing]], None]


class StreamingSampler(TorchSampler):
    """Tells `on_growth` about the first `most` rollouts of the only request, in the order of their index; those that
    wait for a later wave are missing until it begins. What is drawn does not depend on it."""

    def __init__(
        self, model: Callable[[], PreTrainedModel], cache_bytes: int, max_rows: int, on_growth: OnGrowth, most: int
    ) -> None:
        super().__init__(model, cache_bytes, max_rows)
        self._on_growth = on_growth
        self._most = most
        self._shown: dict[int, Growing] = {}

    def _run(
        self,
        wave: Wave,
        model: PreTrainedModel,
        watcher: Watcher,
        report: Callable[[int], None],
        should_stop: ShouldStop,
    ) -> None:
        num_tokens = -1
        looked_at_s = time.monotonic()

        def look() -> bool:
            """Asked once before every token."""
            nonlocal num_tokens, looked_at_s
            num_tokens += 1
            now_s = time.monotonic()
            if num_tokens and now_s - looked_at_s >= LOOK_EVERY_S:
                looked_at_s = now_s
                self._look(wave, num_tokens)
                self._on_growth(list(self._shown.values()))
            return should_stop()

        super()._run(wave, model, watcher, report, look)
        self._look(wave, num_tokens)

    def _look(self, wave: Wave, num_tokens: int) -> None:
        for row, (_, index) in enumerate(wave.owners):
            if index < self._most:
                ended = wave.found.get(row)
                tokens = tuple(wave.tokens[:num_tokens, row].tolist()) if ended is None else ended.tokens
                self._shown[index] = Growing(index, tokens, ended is not None)
