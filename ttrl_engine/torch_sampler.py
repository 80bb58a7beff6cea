"""The sampler for any Hugging Face causal LM on a CPU or a GPU, without another inference engine."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel

from ttrl_engine.decoder_choice import Choice, choose_decoder
from ttrl_engine.decoding import Part, Wave
from ttrl_engine.drawing import uniforms
from ttrl_engine.errors import RunError
from ttrl_engine.generate_sampler import generate
from ttrl_engine.memory import CACHE_SHARE as CACHE_SHARE
from ttrl_engine.memory import CPU_CACHE as CPU_CACHE
from ttrl_engine.memory import MAX_ROWS as MAX_ROWS
from ttrl_engine.memory import whole_blocks
from ttrl_engine.out_of_memory import MAYBE, is_out_of_memory
from ttrl_engine.sampler import (
    DROPPED,
    NO_WATCHER,
    OnProgress,
    Rollout,
    SampleRequest,
    SamplingParams,
    ShouldStop,
    Watcher,
)
from ttrl_engine.static_decoding import StaticDecoder, whole_batch


class TorchSampler:
    """Samples straight from a module in this process: the policy's own, or a copy that `refresh` brings up to date.

    `model` returns the module to run (an adapter may be switched on or off between calls). `cache_bytes` bounds the
    key-value cache: rollouts beyond it wait for the next wave. `max_rows` bounds the batch, which on a CPU stops
    paying off long before memory runs out. Where it does run out, batches are halved, and a note says so; what the
    rows draw does not depend on it.
    """

    name = "torch"

    def __init__(
        self,
        model: Callable[[], PreTrainedModel],
        cache_bytes: int,
        max_rows: int,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self.notes: list[str] = []
        self._model = model
        self._cache_bytes = cache_bytes
        self._max_rows = max_rows
        self._refresh = refresh
        self._chosen: tuple[PreTrainedModel, Choice] | None = None
        self._keeps = True

    def sync(self) -> None:
        """See `Sampler.sync`."""
        self._refresh()

    def give_back(self) -> bool:
        """See `Sampler.give_back`. A static cache and the graphs that point into it are kept for the next step."""
        decoder = None if self._chosen is None else self._chosen[1].decoder
        if not self._keeps or not isinstance(decoder, StaticDecoder):
            return False
        self._keeps = False
        decoder.forget(everything=True)
        self.notes.append(
            "Memory ran out in the update, so the sampler no longer keeps its cache and CUDA graphs between steps. "
            "They are made anew in each, which takes some time."
        )
        return True

    def close(self) -> None:
        """Give back the cache; the module belongs to the policy."""
        self._chosen = None

    @torch.inference_mode()
    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        watcher: Watcher = NO_WATCHER,
    ) -> list[list[Rollout]]:
        """See `Sampler.sample`."""
        model = self._model()
        choice = self._choice(model)
        try:
            return self._sample(model, choice, requests, params, on_progress, should_stop, watcher)
        finally:
            # The memory is the update's now.
            if choice.decoder is not None:
                choice.decoder.forget(everything=not self._keeps)

    def _sample(
        self,
        model: PreTrainedModel,
        choice: Choice,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        watcher: Watcher,
    ) -> list[list[Rollout]]:
        total = sum(request.num_rollouts for request in requests)
        tables = uniforms(requests, params.max_new_tokens)
        rollouts: list[dict[int, Rollout]] = [{} for _ in requests]
        settled: set[int] = set()
        done = 0
        whole = [Part(number, request, 0, request.num_rollouts) for number, request in enumerate(requests)]
        waiting = self._planned(whole, params, choice)
        while waiting:
            parts = []
            for part in waiting.popleft():
                needed = part.without_optional() if part.number in settled else part
                for index in range(needed.stop, part.stop):
                    rollouts[part.number][index] = DROPPED
                    watcher.finished(part.number, index, DROPPED)
                parts += [needed] if needed.num_rows else []

            def report(finished: int, before: int = done) -> None:
                on_progress(before + finished, total)

            if parts:
                wave = Wave(parts, [tables[part.number] for part in parts], params, model.device, settled)
                try:
                    self._run(wave, model, watcher, report, should_stop)
                except MAYBE as failure:
                    self._take_fewer(failure, wave, choice)
                    left = [*wave.unfinished(), *itertools.chain.from_iterable(waiting)]
                    waiting = self._planned(left, params, choice)
                for row, rollout in wave.found.items():
                    part, index = wave.owners[row]
                    rollouts[part.number][index] = rollout
            done = sum(len(found) for found in rollouts)
            self._take_note(choice)
            on_progress(done, total)
        return [[found[index] for index in range(len(found))] for found in rollouts]

    def _planned(self, parts: Iterable[Part], params: SamplingParams, choice: Choice) -> deque[list[Part]]:
        planned = waves(parts, params.max_new_tokens, partial(self._fitting, choice))
        return deque(planned if choice.pads else of_equal_length(planned))

    def _fitting(self, choice: Choice, tokens: int) -> int:
        """Rows of so many tokens for which the decoder makes no more room than the budget allows; 0 for none."""
        is_static = isinstance(choice.decoder, StaticDecoder)
        held = whole_blocks(tokens) if is_static else tokens
        rows = min(self._max_rows, self._cache_bytes // max(1, held * choice.bytes_per_token))
        return whole_batch(rows) if is_static else rows

    def _take_fewer(self, failure: BaseException, wave: Wave, choice: Choice) -> None:
        """After an out-of-memory error: batches of half as many rows as this one. Raises RunError where it was a single
        row, and the failure itself where it is another one."""
        if not is_out_of_memory(failure):
            raise failure
        rows = len(wave.owners)
        if choice.decoder is not None:
            choice.decoder.forget(everything=True)
        if rows == 1:
            raise RunError(
                f"Out of memory: not even one answer of up to {wave.params.max_new_tokens:,} tokens can be sampled. "
                "Lower the longest answer, take a smaller model, or free memory that other programs hold."
            ) from failure
        self._keeps = False
        self._max_rows = rows // 2
        self.notes.append(
            f"Memory ran out while {rows:,} answers were sampled at once, so from now on it is {self._max_rows:,} at "
            "most. The answers are the same, only later."
        )

    def _choice(self, model: PreTrainedModel) -> Choice:
        if self._chosen is None or self._chosen[0] is not model:
            choice = choose_decoder(model)
            self._chosen = model, choice
            self.notes += [choice.note] if choice.note else []
        return self._chosen[1]

    def _take_note(self, choice: Choice) -> None:
        if isinstance(choice.decoder, StaticDecoder) and choice.decoder.note:
            self.notes.append(choice.decoder.note)
            choice.decoder.note = None

    def _run(
        self,
        wave: Wave,
        model: PreTrainedModel,
        watcher: Watcher,
        report: Callable[[int], None],
        should_stop: ShouldStop,
    ) -> None:
        decoder = self._choice(model).decoder
        if decoder is None:
            generate(model, wave, watcher, report, should_stop)
        else:
            wave.run(decoder, watcher, report, should_stop)


def waves(parts: Iterable[Part], max_new_tokens: int, fitting: Callable[[int], int]) -> Iterator[list[Part]]:
    """Rollouts that fit the cache together, in order; a part may be spread over waves. Every wave has a row.
    `fitting` gives the rows of so many tokens, prompt and answer, that fit."""
    wave: list[Part] = []
    rows = longest = 0
    for part in parts:
        start, length = part.start, len(part.request.prompt_ids)
        while start < part.stop:
            width = max(longest, length) + max_new_tokens
            room = fitting(width) - rows
            if room < 1 and wave:
                yield wave
                wave, rows, longest = [], 0, 0
                continue
            stop = min(part.stop, start + max(1, room))
            wave.append(replace(part, start=start, stop=stop))
            rows, longest, start = rows + stop - start, max(longest, length), stop
    if wave:
        yield wave


def of_equal_length(planned: Iterable[Sequence[Part]]) -> Iterator[list[Part]]:
    """The same parts in waves without padding, which some models cannot read."""
    for wave in planned:
        by_length: dict[int, list[Part]] = {}
        for part in wave:
            by_length.setdefault(len(part.request.prompt_ids), []).append(part)
        yield from by_length.values()


def cache_budget(device: torch.device) -> int:
    """Bytes for the key-value cache: on a GPU two fifths of what is free, on a CPU 4 GiB."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch has taken from the driver and does not use is free as well.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free * CACHE_SHARE)
    return CPU_CACHE
