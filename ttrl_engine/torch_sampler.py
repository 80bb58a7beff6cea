"""The sampler for any Hugging Face causal LM on a CPU or a GPU, without another inference engine.

Each prompt is read once; its cache is then repeated for its rollouts, and rows that have ended are dropped from the
batch as they end. With an end token most rows are short and a few are long, so this does a fraction of the work of
`generate`, which runs every row until the last has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from transformers import DynamicCache, PreTrainedModel

from ttrl_engine.sampler import OnProgress, Rollout, SampleRequest, SamplingParams, ShouldStop, StopRequested

# Dropping rows copies the cache, so it waits until a quarter of the rows in the batch have ended.
COMPACT_BELOW = 0.75
# Rows that are decoded at once; more would not be faster.
MAX_ROWS = 512


class TorchSampler:
    """Samples straight from the policy's own module, so `sync` has nothing to do.

    `model` returns the module to run (an adapter may be switched on or off between calls). `cache_bytes` bounds the
    key-value cache: requests beyond it wait for the next wave. `max_rows` bounds the batch, which on a CPU stops
    paying off long before memory runs out.
    """

    name = "torch"

    def __init__(self, model: Callable[[], PreTrainedModel], cache_bytes: int, max_rows: int) -> None:
        self._model = model
        self._cache_bytes = cache_bytes
        self._max_rows = max_rows

    def sync(self) -> None:
        """Nothing to do: the policy's module is the one that samples."""

    def close(self) -> None:
        """Nothing to do: the module belongs to the policy."""

    @torch.inference_mode()
    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
    ) -> list[list[Rollout]]:
        """See `Sampler.sample`. Progress counts finished rollouts."""
        model = self._model()
        total = sum(request.num_rollouts for request in requests)
        done = 0
        rollouts: list[list[Rollout]] = []
        for wave in self._waves(requests, params, model.config):

            def report(finished: int, before: int = done) -> None:
                on_progress(before + finished, total)

            rollouts += _Wave(model, wave, params).run(report, should_stop)
            done += sum(request.num_rollouts for request in wave)
        return rollouts

    def _waves(
        self, requests: Sequence[SampleRequest], params: SamplingParams, config: Any
    ) -> Iterator[list[SampleRequest]]:
        per_token = _cache_bytes_per_token(config)
        wave: list[SampleRequest] = []
        rows = longest = 0
        for request in requests:
            new_rows = rows + request.num_rollouts
            new_longest = max(longest, len(request.prompt_ids))
            need = new_rows * (new_longest + params.max_new_tokens) * per_token
            if wave and (new_rows > self._max_rows or need > self._cache_bytes):
                yield wave
                wave, new_rows, new_longest = [], request.num_rollouts, len(request.prompt_ids)
            wave.append(request)
            rows, longest = new_rows, new_longest
        if wave:
            yield wave


class _Wave:
    """One batch from prefill to the last end token.

    Rows are numbered 0..R-1, grouped by request. `alive` holds the numbers of the rows still growing, in order;
    `in_cache` the numbers of the rows in the model's batch (alive ones and, until the next compaction, ended ones).
    """

    def __init__(self, model: PreTrainedModel, requests: Sequence[SampleRequest], params: SamplingParams) -> None:
        self.model = model
        self.requests = requests
        self.params = params
        self.device = model.device
        counts = torch.tensor([request.num_rollouts for request in requests])
        self.group_of_row = torch.repeat_interleave(torch.arange(len(requests)), counts)
        self.num_rows = int(counts.sum())
        self.generators = [torch.Generator(self.device).manual_seed(request.stream) for request in requests]
        self.stop_ids = torch.tensor(params.stop_ids, device=self.device)
        self.tokens = torch.zeros(self.num_rows, params.max_new_tokens, dtype=torch.long, device=self.device)
        self.logprobs = torch.zeros(self.num_rows, params.max_new_tokens, device=self.device)
        self.lengths = torch.full((self.num_rows,), params.max_new_tokens)
        self.stopped = torch.zeros(self.num_rows, dtype=torch.bool)
        lengths = [len(request.prompt_ids) for request in requests]
        self.padded = min(lengths) != max(lengths)
        self.prompt_length = max(lengths)

    def run(self, on_finished: Callable[[int], None], should_stop: ShouldStop) -> list[list[Rollout]]:
        logits, cache, mask, positions = self._prefill()
        alive = torch.arange(self.num_rows)
        in_cache = alive
        alive_in_cache = alive
        for t in range(self.params.max_new_tokens):
            if should_stop():
                raise StopRequested
            drawn = self._draw(logits[alive_in_cache.to(self.device)], alive, t)
            ended = torch.isin(drawn, self.stop_ids).cpu()
            if bool(ended.any()):
                self.lengths[alive[ended]] = t + 1
                self.stopped[alive[ended]] = True
                alive, alive_in_cache, drawn = alive[~ended], alive_in_cache[~ended], drawn[(~ended).to(self.device)]
                on_finished(self.num_rows - len(alive))
            if len(alive) == 0 or t + 1 == self.params.max_new_tokens:
                break
            if len(alive) <= COMPACT_BELOW * len(in_cache):
                keep = alive_in_cache.to(self.device)
                cache.batch_select_indices(keep)
                mask = mask[keep] if mask is not None else None
                positions = positions[keep] if positions is not None else None
                in_cache, alive_in_cache = alive, torch.arange(len(alive))
            step_ids = torch.zeros(len(in_cache), 1, dtype=torch.long, device=self.device)
            step_ids[alive_in_cache.to(self.device), 0] = drawn
            if mask is not None and positions is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                positions = positions + 1
            logits = self._forward(step_ids, cache, mask, positions)
        on_finished(self.num_rows)
        return self._collect()

    def _prefill(self) -> tuple[torch.Tensor, DynamicCache, torch.Tensor | None, torch.Tensor | None]:
        """One row per prompt, left-padded to the longest; then each row repeated for its rollouts."""
        width = self.prompt_length
        ids = torch.zeros(len(self.requests), width, dtype=torch.long)
        mask = torch.zeros(len(self.requests), width, dtype=torch.long)
        for row, request in enumerate(self.requests):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        all_positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        repeat = self.group_of_row.to(self.device)
        if not self.padded:
            logits = self._forward(ids, cache, None, None)
            cache.batch_select_indices(repeat)
            return logits[repeat], cache, None, None
        logits = self._forward(ids, cache, mask, all_positions)
        cache.batch_select_indices(repeat)
        return logits[repeat], cache, mask[repeat], all_positions[repeat, -1:]

    def _forward(
        self, ids: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None, positions: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits of the last position, (rows, vocabulary) in float32."""
        output = self.model(
            input_ids=ids,
            past_key_values=cache,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _draw(self, logits: torch.Tensor, alive: torch.Tensor, t: int) -> torch.Tensor:
        """One token per alive row, stored with its log-probability.

        argmax(p / Exp(1)) draws from p exactly, without a host round trip. Each request takes noise from its own
        generator for its alive rows only, so its rollouts do not depend on the rest of the wave.
        """
        logits = logits / self.params.temperature
        if self.params.top_p < 1.0:
            logits = _nucleus(logits, self.params.top_p)
        logprobs = torch.log_softmax(logits, dim=-1)
        noise = torch.empty_like(logprobs)
        counts = torch.bincount(self.group_of_row[alive], minlength=len(self.requests)).tolist()
        start = 0
        for generator, count in zip(self.generators, counts, strict=True):
            if count:
                noise[start : start + count].exponential_(generator=generator)
                start += count
        # A zero draw would beat every token, also one that top-p has excluded.
        drawn = (logprobs - noise.clamp_min_(torch.finfo(noise.dtype).tiny).log()).argmax(dim=-1)
        rows = alive.to(self.device)
        self.tokens[rows, t] = drawn
        self.logprobs[rows, t] = logprobs.gather(1, drawn[:, None])[:, 0]
        return drawn

    def _collect(self) -> list[list[Rollout]]:
        tokens, logprobs = self.tokens.tolist(), self.logprobs.tolist()
        lengths, stopped = self.lengths.tolist(), self.stopped.tolist()
        rollouts: list[list[Rollout]] = [[] for _ in self.requests]
        for row, group in enumerate(self.group_of_row.tolist()):
            finish: Literal["stop", "length"] = "stop" if stopped[row] else "length"
            end = lengths[row]
            rollouts[group].append(Rollout(tuple(tokens[row][:end]), tuple(logprobs[row][:end]), finish))
        return rollouts


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set of tokens whose probability reaches top_p; the token that crosses it stays."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    outside = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return torch.full_like(logits, -torch.inf).scatter(-1, order, ordered.masked_fill(outside, -torch.inf))


def cache_budget(device: torch.device) -> int:
    """Bytes for the key-value cache: on a GPU two fifths of what is free, on a CPU 4 GiB."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.4)
    return 4 << 30


def _cache_bytes_per_token(config: Any) -> int:
    """Bytes of keys and values of one token in one row, at four bytes a number (an upper bound)."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * 4)
