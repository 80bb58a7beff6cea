"""The way round for models whose state cannot be handled row by row: the library's own `generate`.

Only the loop is the library's. Tokens are drawn here, from the same random streams and with the same explicit
parameters as everywhere else; `generate` merely takes the token that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from ttrl_engine.decoding import Wave
from ttrl_engine.sampler import Rollout, ShouldStop, StopRequested, Watcher


def generate(
    model: PreTrainedModel,
    wave: Wave,
    watcher: Watcher,
    on_finished: Callable[[int], None],
    should_stop: ShouldStop,
) -> list[Rollout]:
    """The rollouts of a wave whose prompts have one length, row after row. Raises StopRequested."""
    ids = torch.tensor([part.request.prompt_ids for part in wave.parts for _ in range(part.num_rows)])
    ids = ids.to(model.device)
    stop_ids = list(wave.params.stop_ids)
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=wave.params.max_new_tokens,
        eos_token_id=stop_ids,
        pad_token_id=stop_ids[0],
        use_cache=True,
    )
    picker = _Picker(wave, watcher, on_finished, should_stop)
    with _no_settings_of_its_own(model):
        decode: Any = model.generate
        decode(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            logits_processor=LogitsProcessorList([picker]),
        )
    wave.finish_all(picker.alive, watcher)
    on_finished(len(wave.found))
    return wave.rollouts()


class _Picker(LogitsProcessor):
    """Leaves one token per row: the one drawn, or an end token for rows that nobody needs."""

    def __init__(
        self, wave: Wave, watcher: Watcher, on_finished: Callable[[int], None], should_stop: ShouldStop
    ) -> None:
        self.wave, self.watcher, self.on_finished, self.should_stop = wave, watcher, on_finished, should_stop
        self.alive = list(range(len(wave.owners)))
        self.time = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:  # noqa: ARG002
        """(rows, vocabulary) scores, all but one per row at minus infinity."""
        if self.should_stop():
            raise StopRequested
        tokens = torch.full((len(scores),), self.wave.params.stop_ids[0], device=scores.device)
        if self.alive:
            rows = torch.tensor(self.alive, device=scores.device)
            tokens[rows], self.alive = self._draw(scores[rows].float(), rows)
            self.time += 1
        left = torch.full_like(scores, -torch.inf)
        return left.scatter_(1, tokens[:, None], 0.0)  # type: ignore[return-value]

    def _draw(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, list[int]]:
        """The tokens of the rows that still grow, and which of them do so after this one."""
        wave = self.wave
        gone, drawn = wave.take(logits, self.alive, rows, self.time, self.watcher)
        leaving = set(gone)
        drawn[torch.tensor(gone, dtype=torch.long, device=drawn.device)] = wave.params.stop_ids[0]
        if gone:
            self.on_finished(len(wave.found))
        return drawn, [row for slot, row in enumerate(self.alive) if slot not in leaving]


@contextmanager
def _no_settings_of_its_own(model: PreTrainedModel) -> Iterator[None]:
    """`generate` fills every setting left open from the model's own file (top-k, penalties, banned words …)."""
    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own
