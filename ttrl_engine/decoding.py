"""One batch of rollouts from prompt to last token: prompts read once, rows dropped as they end.

With an end token most rows are short and a few are long, so this does a fraction of the work of `generate`, which runs
every row until the last has finished.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl_engine.drawing import draw
from ttrl_engine.row_cache import RowCache, UnservableCacheError
from ttrl_engine.sampler import Finish, Rollout, SampleRequest, SamplingParams, ShouldStop, StopRequested, Watcher

# Positions that a model reads in one pass, and numbers that its head may make in it where it makes them for every
# position. A single row may be longer.
READ_POSITIONS = 1 << 14
HEAD_NUMBERS = 1 << 25


@dataclass(frozen=True)
class Part:
    """Rollouts `start` to `stop` of one request (its number, and itself); a wave is a list of these."""

    number: int
    request: SampleRequest
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows in the batch."""
        return self.stop - self.start

    def without_optional(self) -> Part:
        """The same without the rollouts that may be dropped."""
        required = self.request.num_rollouts if self.request.num_required is None else self.request.num_required
        return replace(self, stop=max(self.start, min(self.stop, required)))


class Decoder(Protocol):
    """Runs the model over a batch whose rows shrink."""

    def start(self, prompts: Sequence[Sequence[int]], sources: Tensor, room: int) -> Tensor:
        """Read the prompts and give row i a copy of prompt `sources[i]`; the (rows, vocabulary) logits after it."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row; the (rows, vocabulary) float32 logits after it, which may be overwritten and
        hold until the next step."""
        ...

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """Copy rows `sources` into rows `holes`, then keep the first `rows`."""
        ...

    def forget(self, everything: bool = False) -> None:
        """Let go of what the rows held, `everything` also of what would spare the next batch some work."""
        ...


class PlainDecoder:
    """Any causal LM whose cache `RowCache` can hold, on any device. Raises UnservableCacheError for another."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        if "past_key_values" not in accepted:
            raise UnservableCacheError("no key-value cache")
        self.takes_positions = "position_ids" in accepted
        self.options: dict[str, Any] = {"use_cache": True, **last_logits(model)}
        self.read_positions = read_positions(model)
        self.cache = RowCache(model.config)
        self.length = 0
        self.mask: Tensor | None = None
        self.positions: Tensor | None = None

    def start(self, prompts: Sequence[Sequence[int]], sources: Tensor, room: int) -> Tensor:
        """See `Decoder.start`. Prompts of unequal length are padded on the left."""
        logits, mask, positions = self.read(prompts)
        if mask is not None and positions is not None:
            # Ones ahead of time: each step shows one column more.
            self.mask = mask.new_ones(len(sources), self.length + room)
            self.mask[:, : self.length] = mask[sources]
            self.positions = positions[sources]
        self.cache.spread(sources, room)
        return logits[sources]

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Fill a new cache with the prompts, one row each: the logits after them, the mask and the last positions
        (both None where all are of one length). As many prompts at a time as fit `read_positions`."""
        self.mask = self.positions = None
        ids, mask = padded(prompts)
        self.length = ids.shape[1]
        whole = bool(mask.all())
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        size = max(1, self.read_positions // self.length)
        logits, caches = [], []
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            self.cache = RowCache(self.model.config)
            caches.append(self.cache)
            seen = (None, None) if whole else (mask[part], positions[part])
            logits.append(self._forward(ids[part], *seen))
        self.cache = caches[0]
        self.cache.join(caches[1:])
        after = torch.cat(logits) if len(logits) > 1 else logits[0]
        return (after, None, None) if whole else (after, mask, positions[:, -1:])

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.length += 1
        if self.mask is None or self.positions is None:
            return self._forward(tokens[:, None], None, None)
        self.positions += 1
        return self._forward(tokens[:, None], self.mask[:, : self.length], self.positions)

    def move(self, sources: Tensor, holes: Tensor, rows: int) -> None:
        """See `Decoder.move`."""
        self.cache.move(sources, holes, rows)
        if self.mask is not None and self.positions is not None:
            self.mask[holes], self.positions[holes] = self.mask[sources], self.positions[sources]
            self.mask, self.positions = self.mask[:rows], self.positions[:rows]

    def forget(self, everything: bool = False) -> None:  # noqa: ARG002  # the protocol's
        """See `Decoder.forget`."""
        self.cache = RowCache(self.model.config)
        self.mask = self.positions = None

    def _forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor | None, **more: Any) -> Tensor:
        options = {**self.options, **more}
        if self.takes_positions:
            options["position_ids"] = positions
        output = self.model(input_ids=ids, past_key_values=self.cache, attention_mask=mask, **options)
        logits: Tensor = output.logits[:, -1].float()
        return logits


def last_logits(model: PreTrainedModel) -> dict[str, Any]:
    """The option that asks for the logits of the last position only, where the model has it."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def read_positions(model: PreTrainedModel) -> int:
    """How many positions the model may read in one pass. There is no gradient, so it is little that each takes, but
    prompts come in hundreds."""
    if last_logits(model):
        return READ_POSITIONS
    embeddings: Any = model.get_input_embeddings()
    return min(READ_POSITIONS, HEAD_NUMBERS // int(embeddings.num_embeddings))


def padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(prompts, longest) token ids and their mask, padded on the left."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


class Wave:
    """Rollouts that are decoded together.

    Rows are numbered once, part after part. A slot is a place in the model's batch; `rows` holds the row in each slot.
    When rows end, rows from the last slots move into theirs, so little is copied and the batch is always full.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        uniforms: Sequence[Tensor],
        params: SamplingParams,
        device: torch.device,
        settled: set[int],
    ) -> None:
        """`uniforms` has one table per part, of all the rollouts of its request; `settled` is kept between waves."""
        self.parts, self.params, self.device = parts, params, device
        self.owners = [(part, index) for part in parts for index in range(part.start, part.stop)]
        # (tokens, rows)
        self.uniforms = torch.cat(
            [table[:, part.start : part.stop] for part, table in zip(parts, uniforms, strict=True)], dim=1
        ).to(device)
        self.stop_ids = torch.tensor(params.stop_ids, device=device)
        self.tokens = torch.zeros(params.max_new_tokens, len(self.owners), dtype=torch.long, device=device)
        self.logprobs = torch.zeros(params.max_new_tokens, len(self.owners), device=device)
        self.found: dict[int, Rollout] = {}
        self.settled = settled

    def run(
        self, decoder: Decoder, watcher: Watcher, on_finished: Callable[[int], None], should_stop: ShouldStop
    ) -> list[Rollout]:
        """The rollouts, row after row. `on_finished` is told how many have ended. Raises StopRequested."""
        sources = [place for place, part in enumerate(self.parts) for _ in range(part.num_rows)]
        room = self.params.max_new_tokens
        logits = decoder.start([part.request.prompt_ids for part in self.parts], self._index(sources), room)
        rows = list(range(len(self.owners)))
        rows_S = self._index(rows)
        for t in range(room):
            if should_stop():
                raise StopRequested
            gone, drawn = self.take(logits, rows, rows_S, t, watcher)
            if gone:
                on_finished(len(self.found))
                sources, holes = moves(len(rows), gone)
                for source, hole in zip(sources, holes, strict=True):
                    rows[hole] = rows[source]
                del rows[len(rows) - len(gone) :]
                rows_S = self._index(rows)
                drawn = self.tokens[t, rows_S]
                decoder.move(self._index(sources), self._index(holes), len(rows))
            if not rows or t + 1 == room:
                break
            logits = decoder.step(drawn)
        self.finish_all(rows, watcher)
        on_finished(len(self.found))
        return self.rollouts()

    def take(
        self, logits: Tensor, rows: list[int], rows_S: Tensor, t: int, watcher: Watcher
    ) -> tuple[list[int], Tensor]:
        """Draw token number t of the rows in the slots. Returns the slots whose rows have ended with it or are not
        needed any more, in rising order, and the tokens."""
        drawn, logprobs = draw(logits, self.uniforms[t, rows_S], self.params.temperature, self.params.top_p)
        self.tokens[t, rows_S] = drawn
        self.logprobs[t, rows_S] = logprobs
        ended = (drawn[:, None] == self.stop_ids).any(dim=1).nonzero()[:, 0].tolist()
        self._finish([rows[slot] for slot in ended], t + 1, "stop", watcher)
        # A row whose last token this was has reached the limit; it is no row less to compute.
        dropped = self._drop(rows, ended, t + 1, watcher) if t + 1 < self.params.max_new_tokens else []
        return sorted(ended + dropped), drawn

    def finish_all(self, rows: list[int], watcher: Watcher) -> None:
        """The rows that are left have reached the length limit."""
        self._finish(rows, self.params.max_new_tokens, "length", watcher)

    def rollouts(self) -> list[Rollout]:
        """Row after row."""
        return [self.found[row] for row in range(len(self.owners))]

    def unfinished(self) -> list[Part]:
        """The rows that have not ended, where the batch broke off."""
        left: list[Part] = []
        for row, (part, index) in enumerate(self.owners):
            if row in self.found:
                continue
            if left and (left[-1].number, left[-1].stop) == (part.number, index):
                left[-1] = replace(left[-1], stop=index + 1)
            else:
                left.append(replace(part, start=index, stop=index + 1))
        return left

    def _finish(self, rows: list[int], length: int, finish: Finish, watcher: Watcher) -> None:
        if not rows:
            return
        index = self._index(rows)
        tokens = self.tokens[:length, index].T.tolist()
        logprobs = self.logprobs[:length, index].T.tolist()
        for row, row_tokens, row_logprobs in zip(rows, tokens, logprobs, strict=True):
            part, number = self.owners[row]
            self.found[row] = Rollout(tuple(row_tokens), tuple(row_logprobs), finish)
            watcher.finished(part.number, number, self.found[row])

    def _drop(self, rows: list[int], ended: list[int], length: int, watcher: Watcher) -> list[int]:
        """Slots of the rollouts that are not needed any more; they are reported as dropped."""
        self.settled.update(watcher.settled())
        if not self.settled:
            return []
        slots = []
        for slot in set(range(len(rows))).difference(ended):
            part, number = self.owners[rows[slot]]
            if part.number in self.settled and not part.request.required(number):
                slots.append(slot)
        self._finish([rows[slot] for slot in slots], length, "dropped", watcher)
        return slots

    def _index(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)


def moves(num_slots: int, gone: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which slots to copy (sources) into which (holes), so that the slots that stay are the first ones.

    `gone` rises. As few rows as possible move: those beyond the new end, into the holes before it.
    """
    kept = num_slots - len(gone)
    holes = [slot for slot in gone if slot < kept]
    leaving = set(gone)
    return [slot for slot in range(kept, num_slots) if slot not in leaving], holes
