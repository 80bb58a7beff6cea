"""What a run needs in memory, estimated from a model's shape and the config alone, and which settings would lower it.

Importing this module loads neither torch nor transformers. Every figure is in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError
from ttrl_engine.gpu_split import COMFORTABLE, Split, split_gpu

Device = Literal["cpu", "cuda"]
When = Literal["always", "sampling", "updating"]

GIB = 1 << 30
# The smallest rollout that is worth proposing.
MIN_NEW_TOKENS = 64
# Feed-forward blocks of two matrices; all others have a gate as third.
_UNGATED = frozenset({"bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "opt", "phi"})
# What bounds memory as a run computes is here, where nothing loads torch; what computes takes it from here.
# Logits are made for so many numbers (tokens x vocabulary) at a time and made again in the backward pass. By kind of
# device: a GPU wants larger products.
HEAD_CHUNK: Mapping[str, int] = {"cpu": 1 << 25, "cuda": 1 << 27}
# Rows that are decoded at once; more would not be faster.
MAX_ROWS = 512
# For the key-value cache: on a GPU of what is free, on a CPU in bytes.
CACHE_SHARE = 0.4
CPU_CACHE = 4 * GIB
# Tokens that a static cache makes room for at a time, so that a slightly longer prompt finds its room; a multiple of
# what attention kernels ask of the rows of a mask.
BLOCK = 256
# What a process holds before it has loaded a model: libraries on a CPU, the driver's context on a GPU.
PROCESS: Mapping[Device, int] = {"cpu": int(0.45 * GIB), "cuda": int(0.6 * GIB)}
# Graphs, workspaces and libraries of vLLM; they stay where they are when it sleeps.
VLLM_FIXED = 3 * GIB
# Positions that vLLM reads in one pass. It tries such a pass when it starts, and only what that leaves is its cache.
VLLM_PASS = 8_192
# What allocators hold above what is used.
FRAGMENTATION: Mapping[Device, float] = {"cpu": 1.1, "cuda": 1.1}
# On a CPU, where an adapter's many small tensors lie between the large ones (`python -m benchmarks.memory`).
ADAPTER_FRAGMENTATION = 1.5


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that decide its memory. `experts` is 1 for a dense model, `active_experts` how many of
    them one token uses; `context` is None where the config names no limit."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    gated: bool = True
    experts: int = 1
    active_experts: int = 1
    context: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """From the content of a config.json. Raises ModelError where it lacks a size."""
        inner = config.get("text_config")
        if isinstance(inner, dict) and "hidden_size" in inner:
            config = {**config, **inner}

        def size(*names: str) -> int:
            found = next((config[name] for name in names if isinstance(config.get(name), int)), None)
            if found is None or found < 1:
                raise ModelError(f"The model's config does not say its {names[0]}, so its memory cannot be estimated.")
            return int(found)

        hidden, heads = size("hidden_size", "n_embd", "d_model"), size("num_attention_heads", "n_head", "num_heads")
        intermediate = next(
            (int(config[name]) for name in _INTERMEDIATE if isinstance(config.get(name), int) and config[name] > 0),
            4 * hidden,
        )
        return cls(
            hidden=hidden,
            layers=size("num_hidden_layers", "n_layer", "num_layers"),
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            intermediate=intermediate,
            vocabulary=size("vocab_size"),
            tied=bool(config.get("tie_word_embeddings", True)),
            gated=config.get("model_type") not in _UNGATED,
            experts=config.get("num_local_experts") or config.get("num_experts") or 1,
            active_experts=config.get("num_experts_per_tok") or 1,
            context=config.get("max_position_embeddings"),
        )

    @property
    def parameters(self) -> int:
        """Numbers in the model, biases of the projections aside."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * (self._linear + 2 * self.hidden) + self.hidden

    @property
    def _linear(self) -> int:
        return sum(rows * columns * count for rows, columns, count in self._matrices())

    def lora_parameters(self, rank: int) -> int:
        """Numbers in an adapter on every linear layer but the head."""
        return self.layers * sum(rank * (rows + columns) * count for rows, columns, count in self._matrices())

    def lora_folds(self, rank: int) -> bool:
        """Whether an adapter is folded into float32 weights on a CPU; the rule of lora.py."""
        return 3 * self.lora_parameters(rank) >= self.layers * self._linear

    @property
    def folded_weights(self) -> int:
        """Numbers in the matrices that an adapter lies on."""
        return self.layers * self._linear

    @property
    def cache_numbers(self) -> int:
        """Numbers in the key-value cache per token."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def _matrices(self) -> Iterator[tuple[int, int, int]]:
        """(in, out, how many) of one layer's linear maps."""
        attention, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield self.hidden, attention, 2
        yield self.hidden, keys, 2
        yield self.hidden, self.intermediate, (3 if self.gated else 2) * self.experts


_INTERMEDIATE = ("moe_intermediate_size", "intermediate_size", "n_inner", "ffn_dim", "d_ff")


@dataclass(frozen=True)
class Part:
    """One thing that takes memory, and when: all the time, or in one phase of a step only."""

    name: str
    bytes: int
    when: When


@dataclass(frozen=True)
class Estimate:
    """The parts of a run's memory. The phases of a step follow each other, so the larger one counts.

    `split` is what vLLM gets of a GPU of `gpu` bytes; both are None where the GPU is not known, `split` also where vLLM
    does not sample.
    """

    shape: ModelShape
    config: RunConfig
    device: Device
    parts: tuple[Part, ...]
    gpu: int | None = None
    split: Split | None = None

    @property
    def total(self) -> int:
        """The peak of the whole run on one device."""
        return self.during("always") + max(self.during("sampling"), self.during("updating"))

    @property
    def cache(self) -> int:
        """Bytes of the sampler's key-value cache."""
        return sum(part.bytes for part in self.parts if part.name == "key-value cache")

    def during(self, when: When) -> int:
        """Bytes of the parts of one phase."""
        return sum(part.bytes for part in self.parts if part.when == when)


@dataclass(frozen=True)
class Remedy:
    """A change of settings that lowers the estimate: `changes` by dotted name, and the total that they lead to.
    With `keeps_result` the run learns what it would have learned without it, only slower."""

    title: str
    changes: dict[str, Any]
    total: int
    fits: bool
    keeps_result: bool


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder, from its config.json. Raises ModelError with the reason."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise ModelError(f"The config.json of {folder.name} cannot be read: {failure}") from None
    if not isinstance(config, dict):
        raise ModelError(f"The config.json of {folder.name} is not a model config.")
    return ModelShape.from_config(config)


def estimate(shape: ModelShape, config: RunConfig, device: Device, gpu: int | None = None) -> Estimate:
    """The memory of a run on one device. On a GPU `hardware.sampler: auto` counts as vLLM, the larger of the two: with
    what is left for it of a GPU of `gpu` bytes, or, where that is not known, with all that it could use."""
    engine: list[Part] = []
    split = None
    if not _vllm(config, device):
        parts = _trainer(shape, config, device, _sampling(shape, config, device, gpu))
    else:
        parts, engine = _trainer(shape, config, device), [*_engine(shape, config)]
        if gpu is not None:
            split = _split(shape, config, gpu)
            engine = [*_within(engine, split)]
    return Estimate(shape, config, device, tuple(part for part in [*parts, *engine] if part.bytes), gpu, split)


def remedies(found: Estimate, available: int) -> list[Remedy]:
    """Changes that lower the estimate, those that suffice first, then those that cost the run least.

    Each stands alone; where none suffices alone, the last one is all of those that leave the result as it is.
    """
    shape, config, device = found.shape, found.config, found.device

    def with_changes(title: str, changes: dict[str, Any], keeps_result: bool) -> Remedy:
        total = estimate(shape, config.with_changes(**changes), device, found.gpu).total
        return Remedy(title, changes, total, total <= available, keeps_result)

    offered = []
    harmless: dict[str, Any] = {}
    for title, keeps_result, variants in _knobs(found):
        tried = [with_changes(title, changes, keeps_result) for changes in variants]
        # The mildest that suffices, else the strongest.
        chosen = next((remedy for remedy in tried if remedy.fits), tried[-1] if tried else None)
        if chosen is not None and chosen.total < found.total:
            offered.append(chosen)
            harmless |= variants[-1] if keeps_result else {}
    if len(harmless) > 1 and not any(remedy.fits for remedy in offered):
        offered.append(with_changes("All of the settings that do not change the result", harmless, True))
    return sorted(offered, key=lambda remedy: not remedy.fits)


def describe_rollout(shape: ModelShape, tokens: int, device: Device, lora_rank: int) -> str:
    """What one rollout in a micro-batch of its own needs, in a sentence."""
    half = device == "cuda" and lora_rank > 0
    weights = shape.parameters * (2 if half else 4)
    activations = activation_bytes(shape, tokens, half, True, lora_rank)
    activations += head_bytes(shape, tokens, device)
    return (
        f"Its activations take about {activations / GIB:.2g} GiB, beside {weights / GIB:.2g} GiB of weights and what "
        "the optimizer and the sampler hold."
    )


def activation_bytes(shape: ModelShape, tokens: int, half: bool, checkpointing: bool, lora_rank: int) -> int:
    """What the forward pass of one micro-batch keeps for the backward pass, and what that makes on top.

    With `checkpointing` that is one hidden state per layer, and one layer in full.
    """
    width = 2 if half else 4
    attention, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    feed = shape.intermediate * shape.active_experts
    # Per norm its input, the normalised state and its product with the weight, in float32 but for the last; queries,
    # keys and values as projected and laid out; the attention's output twice; the gate, its activation, the other
    # branch and their product.
    layer = 2 * (2 * 4 + width) * shape.hidden + width * (4 * attention + 4 * keys + (4 if shape.gated else 3) * feed)
    if lora_rank:
        # Beside a frozen weight, peft keeps its own copy of each input in float32 and the narrow product.
        layer += (4 - width) * (2 * shape.hidden + attention + feed) + 4 * 7 * lora_rank
    kept = tokens * (width * shape.hidden * shape.layers + layer if checkpointing else layer * shape.layers)
    return int(kept + tokens * width * (2 * feed + 4 * shape.hidden))


def head_bytes(shape: ModelShape, tokens: int, device: Device) -> int:
    """Logits of one chunk: as the head makes them in float32, their log-softmax and their gradient."""
    return 12 * min(tokens * shape.vocabulary, HEAD_CHUNK[device])


def _trainer(shape: ModelShape, config: RunConfig, device: Device, beside: Iterable[Part] = ()) -> list[Part]:
    """What the process holds but for vLLM, `beside` included, and what its allocator holds above that."""
    own = [*_weights(shape, config, device), *beside, *_updating(shape, config, device)]
    held = FRAGMENTATION[device]
    if device == "cpu" and config.model.method == "lora" and not _folds(shape, config, device):
        held = ADAPTER_FRAGMENTATION
    fragments = [
        Part("fragmentation", int((held - 1.0) * sum(part.bytes for part in own if part.when == when)), when)
        for when in ("always", "sampling", "updating")
    ]
    return [Part("process", PROCESS[device], "always"), *own, *fragments]


def _weights(shape: ModelShape, config: RunConfig, device: Device) -> Iterator[Part]:
    model, train = config.model, config.train
    total = shape.parameters
    if model.method == "full":
        yield Part("weights", 4 * total, "always")
        yield Part("optimizer", 8 * total, "always")
        yield Part("gradients", 4 * total, "updating")
        if train.kl_coef > 0.0:
            yield Part("reference", 4 * total, "always")
        return
    adapter = shape.lora_parameters(model.lora_rank)
    half = _half(config, device)
    yield Part("weights", (2 if half else 4) * total, "always")
    yield Part("adapter", 4 * adapter, "always")
    yield Part("optimizer", 8 * adapter, "always")
    yield Part("gradients", 4 * adapter, "updating")
    if _folds(shape, config, device):
        yield Part("folded adapter", 4 * shape.folded_weights, "always")
        yield Part("folded gradients", 4 * shape.folded_weights, "updating")


def _sampling(shape: ModelShape, config: RunConfig, device: Device, gpu: int | None) -> Iterator[Part]:
    """With the torch sampler, which computes with the policy's own weights, or, where these are all trained on a GPU,
    with their copy in half precision. On a GPU its cache stays where it is, as recorded graphs point into it; it is
    small enough to leave the update its room, down to the rollouts of one problem."""
    rows, copied = _rows(config), device == "cuda" and config.model.method == "full"
    width = 2 if copied or _half(config, device) else 4
    if copied:
        yield Part("sampling weights", width * shape.parameters, "always")
    if device == "cpu":
        row = longest_row(shape, config) * shape.cache_numbers * width
        yield Part("key-value cache", min(rows * row, max(CPU_CACHE, config.vote.num_votes * row)), "sampling")
    else:
        cache = rows * whole_blocks(longest_row(shape, config)) * shape.cache_numbers * width
        if gpu is not None:
            cache = min(cache, _room_for_cache(shape, config, gpu, width, copied))
        yield Part("key-value cache", cache, "always")
    yield Part("sampling", _next_tokens(shape, rows), "sampling")


def _room_for_cache(shape: ModelShape, config: RunConfig, gpu: int, width: int, copied: bool) -> int:
    """Of a GPU of so many bytes, for the torch sampler."""
    others = [*_weights(shape, config, "cuda"), *_updating(shape, config, "cuda")]
    update = sum(part.bytes for part in others) + (width * shape.parameters if copied else 0)
    held = PROCESS["cuda"] + update - sum(part.bytes for part in others if part.when == "updating")
    beside = (COMFORTABLE * gpu - PROCESS["cuda"]) / FRAGMENTATION["cuda"] - update
    least = config.vote.num_votes * whole_blocks(longest_row(shape, config)) * shape.cache_numbers * width
    return max(least, int(min(CACHE_SHARE * (gpu - held), beside)))


def whole_blocks(tokens: int) -> int:
    """The room that a static cache makes for so many tokens of a row."""
    return -(-tokens // BLOCK) * BLOCK


def _engine(shape: ModelShape, config: RunConfig) -> Iterator[Part]:
    """All that vLLM could use; it holds that all the time unless it sleeps."""
    rows, width = _rows(config), 2 if config.model.method == "full" or _half(config, "cuda") else 4
    yield Part("vllm weights", width * shape.parameters, "always")
    yield Part("vllm fixed", VLLM_FIXED, "always")
    yield Part("key-value cache", rows * longest_row(shape, config) * shape.cache_numbers * width, "always")
    yield Part("sampling", _next_tokens(shape, engine_rows(config)) + width * VLLM_PASS * _pass(shape), "always")


def _pass(shape: ModelShape) -> int:
    """Numbers that vLLM holds per position as it reads prompts: states between layers and what each expert adds to
    them, queries, keys, values and the attention's output, the branches of the feed-forward block and their product."""
    states = (6 + 2 * shape.active_experts) * shape.hidden
    attention = 2 * (shape.heads + shape.kv_heads) * shape.head_dim
    return states + attention + 3 * shape.intermediate * shape.active_experts


def _split(shape: ModelShape, config: RunConfig, gpu: int) -> Split:
    trainer = _trainer(shape, config, "cuda")
    parts = {part.name: part.bytes for part in _engine(shape, config)}
    cache = parts.pop("key-value cache")
    resident = sum(part.bytes for part in trainer if part.when == "always")
    peak = resident + sum(part.bytes for part in trainer if part.when == "updating")
    # Where memory runs out, an update goes on with ever smaller micro-batches, down to one rollout, and checkpointing.
    frugal = config.with_changes(**{"train.tokens_per_batch": 64, "train.gradient_checkpointing": True})
    least = sum(part.bytes for part in _trainer(shape, frugal, "cuda"))
    return split_gpu(gpu, resident, peak, least, sum(parts.values()), VLLM_FIXED, cache, cache // _rows(config))


def _within(engine: Iterable[Part], split: Split) -> Iterator[Part]:
    """vLLM's parts as its share of a GPU allows: the cache takes what the others leave of it."""
    parts = {part.name: part.bytes for part in engine}
    parts["key-value cache"] = split.engine - sum(size for name, size in parts.items() if name != "key-value cache")
    for name, size in parts.items():
        yield Part(name, size, "sampling" if split.sleeps and name != "vllm fixed" else "always")


def _rows(config: RunConfig) -> int:
    """Rollouts that are sampled at once, at most."""
    return min(MAX_ROWS, config.train.problems_per_step * config.vote.num_votes)


def engine_rows(config: RunConfig) -> int:
    """Rollouts that vLLM samples at once, at most: those of a step or of an evaluation."""
    problems = config.evaluate.max_problems
    asked = MAX_ROWS if problems is None else problems * config.evaluate.num_samples
    return max(_rows(config), min(MAX_ROWS, asked))


def _next_tokens(shape: ModelShape, rows: int) -> int:
    """Logits, log-probabilities, noise and their difference of one token."""
    return rows * shape.vocabulary * 4 * 4


def _updating(shape: ModelShape, config: RunConfig, device: Device) -> Iterator[Part]:
    tokens = micro_batch_tokens(shape, config, device)
    train, model = config.train, config.model
    half = device == "cuda" and (model.method == "full" or _half(config, device))
    beside = 0 if model.method == "full" or _folds(shape, config, device) else model.lora_rank
    yield Part("activations", activation_bytes(shape, tokens, half, train.gradient_checkpointing, beside), "updating")
    yield Part("head", head_bytes(shape, tokens, device), "updating")
    if half and model.method == "full":
        # Autocast keeps the weights in half precision for the length of a pass.
        yield Part("half weights", 2 * shape.parameters, "updating")


def longest_row(shape: ModelShape, config: RunConfig) -> int:
    """Tokens of the longest prompt and answer that the config allows and the model's window holds."""
    asked = config.data.max_prompt_tokens + config.vote.max_new_tokens
    return min(asked, shape.context) if shape.context else asked


def default_tokens(device: Device, hidden: int) -> int:
    """Positions in a micro-batch where the config sets none. On a CPU layers as narrow as the bundled model's are paid
    for by the call, so they take more at a time (`python -m benchmarks.update`); wide ones gain nothing from it."""
    return 16_384 if device == "cuda" else min(4_096, max(1_024, (1 << 19) // hidden))


def micro_batch_tokens(shape: ModelShape, config: RunConfig, device: Device) -> int:
    """Positions in a micro-batch of the update: the budget, or the longest row where that is longer."""
    budget = config.train.tokens_per_batch or default_tokens(device, shape.hidden)
    return max(budget, longest_row(shape, config))


def _knobs(found: Estimate) -> Iterator[tuple[str, bool, list[dict[str, Any]]]]:
    """Title, whether the result stays what it is, and settings from mild to strong; in the order of preference."""
    shape, config, device = found.shape, found.config, found.device
    longest, vote = longest_row(shape, config), config.vote
    budget = micro_batch_tokens(shape, config, device)
    smaller = [max(longest, 64, budget >> halvings) for halvings in range(1, 20) if budget >> halvings > longest // 2]
    yield "Smaller micro-batches", True, [{"train.tokens_per_batch": size} for size in smaller]
    if not config.train.gradient_checkpointing:
        yield "Gradient checkpointing", True, [{"train.gradient_checkpointing": True}]
    if _vllm(config, device):
        yield "The torch sampler in place of vLLM", True, [{"hardware.sampler": "torch"}]
    if device == "cuda" and config.model.method == "lora" and not _half(config, device):
        yield "Frozen weights in bfloat16", False, [{"model.dtype": "bfloat16"}]
    if config.model.method == "full":
        yield "An adapter in place of all weights", False, [{"model.method": "lora"}]
    shorter = [vote.max_new_tokens >> halvings for halvings in range(1, 12)]
    yield (
        "Shorter answers",
        False,
        [{"vote.max_new_tokens": size} for size in shorter if size >= MIN_NEW_TOKENS],
    )
    fewer = [vote.num_votes >> halvings for halvings in range(1, 6) if vote.num_votes >> halvings >= 8]
    yield (
        "Fewer votes",
        False,
        [{"vote.num_votes": size, "vote.num_trained": min(size, vote.num_trained)} for size in fewer],
    )


def _vllm(config: RunConfig, device: Device) -> bool:
    return device == "cuda" and config.hardware.sampler != "torch"


def _half(config: RunConfig, device: Device) -> bool:
    """Whether the frozen weights of an adapter run are in half precision."""
    dtype = config.model.dtype
    return config.model.method == "lora" and (dtype == "bfloat16" or (dtype == "auto" and device == "cuda"))


def _folds(shape: ModelShape, config: RunConfig, device: Device) -> bool:
    return (
        device == "cpu"
        and config.model.method == "lora"
        and not _half(config, device)
        and shape.lora_folds(config.model.lora_rank)
    )
