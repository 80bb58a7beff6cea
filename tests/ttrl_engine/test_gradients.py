"""The gradient of every path of the update is that of a padded pass with full logits and the formula in plain sight."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.ttrl_engine.tiny import CHARACTERS, write_tiny_model
from ttrl_engine import attention
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.packing import Pack, Segment, TrainRow
from ttrl_engine.policy import Policy

SIZES: dict[str, Any] = {
    "vocab_size": len(CHARACTERS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
    "eos_token_id": 1,
    "bos_token_id": None,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES),
    "gemma": GemmaConfig(**SIZES),
    "gemma2": Gemma2Config(**SIZES, sliding_window=16),
    "mistral-short-window": MistralConfig(**SIZES, sliding_window=12),
    "gpt2": GPT2Config(
        vocab_size=len(CHARACTERS), n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=1, bos_token_id=1
    ),
}
PACKED = ("llama", "qwen2", "qwen3", "gemma", "gpt2")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: write_tiny_model(tmp_path_factory.mktemp(name), architecture=config)
        for name, config in ARCHITECTURES.items()
    }


def rows_of_problems(num_problems: int = 2, num_rows: int = 4) -> list[TrainRow]:
    """Several rows per prompt, of lengths from 1, with sampler log-probabilities that are off."""
    draw = random.Random(0)
    rows = []
    for _ in range(num_problems):
        prompt = tuple(draw.randrange(2, 60) for _ in range(draw.randrange(2, 9)))
        for index in range(num_rows):
            tokens = tuple(draw.randrange(1, 60) for _ in range(1 if index == 2 else draw.randrange(2, 18)))
            advantage = draw.choice([-0.5, 0.0, 0.5, 1.0])
            rows.append(TrainRow(prompt, tokens, tuple(-5 * draw.random() for _ in tokens), advantage))
    return rows


def load(folder: Path, train: TrainConfig, method: str = "full", rank: int = 4) -> Policy:
    config = ModelConfig.model_validate({"source": str(folder), "method": method, "lora_rank": rank})
    policy = Policy.load(config, HardwareConfig(device="cpu"), train)
    torch.manual_seed(1)
    for parameter in policy.parameters if method == "lora" else []:
        parameter.data.normal_(std=0.03)  # peft starts with B = 0, where half of the gradient is zero
    if policy.folded:
        policy.folded.fold()
    return policy


@contextlib.contextmanager
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Adapters stay beside the weights, as peft computes them."""
    with monkeypatch.context() as patch:
        patch.setattr("ttrl_engine.policy.fold_where_faster", lambda *_: None)
        yield


def our_gradient(policy: Policy, rows: list[TrainRow], train: TrainConfig) -> torch.Tensor:
    """What the optimizer is handed."""
    seen: list[torch.Tensor] = []
    policy.optimizer.step = lambda *_: seen.append(flat_gradient(policy))  # type: ignore[method-assign]
    policy.update([rows], train, 0.7, 0.0, lambda: False)
    return seen[0]


def flat_gradient(policy: Policy) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in policy.parameters])


def naive_logprobs(model: torch.nn.Module, rows: list[TrainRow]) -> list[torch.Tensor]:
    width = max(row.length for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : row.length] = torch.tensor(row.prompt_ids + row.tokens)
        mask[index, : row.length] = 1
    everything = (model(input_ids=ids, attention_mask=mask, use_cache=False).logits / 0.7).log_softmax(-1)
    return [
        torch.stack([everything[i, len(row.prompt_ids) - 1 + j, token] for j, token in enumerate(row.tokens)])
        for i, row in enumerate(rows)
    ]


def naive_gradient(policy: Policy, rows: list[TrainRow], train: TrainConfig) -> torch.Tensor:
    """All rows padded to the longest, all logits, every term of the loss written out."""
    policy.optimizer.zero_grad()
    total = sum(len(row.tokens) for row in rows)
    base: list[torch.Tensor] = []
    if train.kl_coef:
        with torch.no_grad(), contextlib.nullcontext(policy.reference) if policy.reference else policy.as_base() as ref:
            base = naive_logprobs(ref, rows)
    loss = torch.zeros(())
    for index, (row, logprobs) in enumerate(zip(rows, naive_logprobs(policy.base, rows), strict=True)):
        ratio = (logprobs - torch.tensor(row.old_logprobs)).exp()
        if train.updates_per_step == 1:
            weight = ratio.detach().clamp(max=train.importance_cap) if train.importance_cap else torch.ones(())
            gain = weight * row.advantage * logprobs
        else:
            clipped = ratio.clamp(1 - train.clip_low, 1 + train.clip_high)
            gain = torch.minimum(ratio * row.advantage, clipped * row.advantage)
            if row.advantage < 0:
                gain = torch.maximum(gain, torch.tensor(3.0 * row.advantage))
        loss = loss - gain.sum() / total
        if train.kl_coef:
            away = base[index] - logprobs
            loss = loss + train.kl_coef * (away.exp() - away - 1).sum() / total
    loss.backward()
    return flat_gradient(policy)


def relative_error(ours: torch.Tensor, naive: torch.Tensor) -> float:
    return float((ours - naive).norm() / naive.norm())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_has_the_naive_gradient(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, method: str, checkpointing: bool
) -> None:
    train = TrainConfig(max_grad_norm=1000.0, gradient_checkpointing=checkpointing)
    ours, rows = load(models[name], train, method), rows_of_problems()
    with beside(monkeypatch):
        naive = load(models[name], TrainConfig(), method)
    expected = naive_gradient(naive, rows, train)
    for budget in (1024, 40):
        ours.tokens_per_batch = budget
        assert relative_error(our_gradient(ours, rows, train), expected) < 1e-5


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
@pytest.mark.parametrize(("updates", "cap"), [(1, None), (1, 2.0), (8, 2.0)])
def test_every_objective_has_the_naive_gradient(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, method: str, kl_coef: float, updates: int, cap: float
) -> None:
    train = TrainConfig(max_grad_norm=1000.0, kl_coef=kl_coef, updates_per_step=updates, importance_cap=cap)
    ours, rows = load(models["llama"], train, method), rows_of_problems()
    with beside(monkeypatch):
        naive = load(models["llama"], train, method)
    assert relative_error(our_gradient(ours, rows, train), naive_gradient(naive, rows, train)) < 1e-5


@pytest.mark.parametrize("path", ["padded", "chunked head", "adapter beside"])
def test_every_other_path_has_the_naive_gradient(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    train, rows = TrainConfig(max_grad_norm=1000.0), rows_of_problems()
    method = "lora" if path == "adapter beside" else "full"
    with beside(monkeypatch):
        ours, naive = (load(models["llama"], train, method) for _ in range(2))
    if path == "padded":
        ours.scorer.lay_out = None
    if path == "chunked head":
        monkeypatch.setattr("ttrl_engine.head.HEAD_CHUNK", {"cpu": 7 * len(CHARACTERS)})
    assert relative_error(our_gradient(ours, rows, train), naive_gradient(naive, rows, train)) < 1e-5


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_rows_are_packed_where_that_is_exact(models: dict[str, Path], name: str) -> None:
    scorer = load(models[name], TrainConfig()).scorer
    assert (scorer.lay_out is not None) == (name in PACKED or name == "mistral-short-window")
    assert isinstance(scorer.arrange(rows_of_problems(), share=True), Pack) == (name in PACKED)


def naive_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts_q: torch.Tensor,
    starts_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What the flash kernel computes, one sequence and one query at a time; queries are the last of their keys."""
    assert window_size == (-1, 0)
    shared = query.shape[1] // key.shape[1]
    assert enable_gqa == (shared > 1)
    key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    out = []
    for number in range(len(starts_q) - 1):
        q = query[starts_q[number] : starts_q[number + 1]]
        k, v = (x[starts_k[number] : starts_k[number + 1]] for x in (key, value))
        assert len(q) <= max_q
        assert len(k) <= max_k
        for at, one in enumerate(q):
            seen = len(k) - len(q) + at + 1
            scores = torch.einsum("hd,khd->hk", one, k[:seen]) * (scale or q.shape[-1] ** -0.5)
            out.append(torch.einsum("hk,khd->hd", scores.softmax(-1), v[:seen]))
    return torch.stack(out)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_heads_that_no_kernel_groups_have_the_naive_gradient(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On a GPU keys and values are repeated for some kernels."""
    grouped: list[bool] = []
    attend: Any = torch.nn.functional.scaled_dot_product_attention

    def watched(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        grouped.append(options["enable_gqa"])
        out: torch.Tensor = attend(*tensors, **options)
        return out

    train, rows = TrainConfig(max_grad_norm=1000.0), rows_of_problems()
    ours, naive = (load(models[name], train) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(attention, "groups_heads", lambda *_: False)
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
        gradient = our_gradient(ours, rows, train)
    assert set(grouped) == {False}
    assert relative_error(gradient, naive_gradient(naive, rows, train)) < 1e-5


def test_a_gpu_groups_heads_only_in_flash() -> None:
    gpu, half = torch.device("cuda"), torch.bfloat16
    assert attention.groups_heads(gpu, half, False, 128)
    assert not attention.groups_heads(gpu, torch.float32, False, 128)
    assert not attention.groups_heads(gpu, half, True, 128)
    assert not attention.groups_heads(gpu, half, False, 512)
    assert attention.groups_heads(torch.device("cpu"), torch.float32, True, 128)


def test_the_gradient_of_a_shared_prompt_is_rounded_once() -> None:
    torch.manual_seed(0)
    keys = torch.randn(6, 2, 4, dtype=torch.bfloat16)
    places = torch.cat([torch.arange(6) for _ in range(64)])
    incoming = torch.randn(len(places), 2, 4).bfloat16()
    keys.requires_grad_()
    read = attention._repeat(keys, places)
    assert torch.equal(read, keys[places])
    read.backward(incoming)
    assert keys.grad is not None
    assert torch.equal(keys.grad, incoming.double().view(64, 6, 2, 4).sum(0).bfloat16())
    one_by_one = torch.zeros_like(keys.grad)
    for part in incoming.split(6):
        one_by_one += part
    assert not torch.equal(keys.grad, one_by_one), "the sum must be one that roundings would show in"


def test_the_variable_length_layout_has_the_naive_gradient(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's kernel by its own interface, computed plainly; its half precision is left out."""
    monkeypatch.setattr(attention, "varlen_kernel", lambda: naive_varlen)
    monkeypatch.setattr(attention, "HALF", (torch.float32,))
    train, rows = TrainConfig(max_grad_norm=1000.0), rows_of_problems()
    ours, naive = (load(models["qwen2"], train) for _ in range(2))
    assert ours.scorer._agrees(ours.base, attention.ragged)
    for checkpointing in (False, True):
        ours.checkpointing = checkpointing  # whether prompts are shared
        assert relative_error(our_gradient(ours, rows, train), naive_gradient(naive, rows, train)) < 1e-5


def test_a_kernel_that_computes_something_else_is_not_used(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def top_left(segments: Sequence[Segment], device: torch.device) -> attention.Layout:
        layout = attention.side_by_side(segments, device)
        assert isinstance(layout, attention.SideBySide)
        wrong = [
            attention.Block(b.count, b.width, b.prefix, None if b.mask is None else b.mask.flip(0))
            for b in layout.blocks
        ]
        return attention.SideBySide(tuple(wrong), layout.spread, layout.gathered)

    scorer = load(models["llama"], TrainConfig()).scorer
    monkeypatch.setattr(scorer, "_layouts", lambda _: [top_left])
    assert not scorer._agrees(load(models["llama"], TrainConfig()).base, top_left)


def test_shared_prompts_never_meet_checkpointing(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    train = TrainConfig(gradient_checkpointing=True)
    policy = load(models["llama"], train)
    arrange = policy.scorer.arrange
    monkeypatch.setattr(policy.scorer, "arrange", lambda rows, **_: arrange(rows, share=True))
    with pytest.raises(AssertionError):
        policy.update([rows_of_problems()], train, 1.0, 0.0, lambda: False)


def test_trained_weights_and_their_moments_are_float32(models: dict[str, Path]) -> None:
    for method in ("full", "lora"):
        config = ModelConfig.model_validate({"source": str(models["llama"]), "method": method, "dtype": "bfloat16"})
        policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
        policy.update([rows_of_problems()], TrainConfig(), 1.0, 1e-3, lambda: False)
        moments = [s[name] for s in policy.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        assert {t.dtype for t in [*policy.parameters, *moments]} == {torch.float32}
        frozen = {p.dtype for p in policy.model.parameters() if not p.requires_grad}
        assert frozen == ({torch.bfloat16} if method == "lora" else set())
        assert policy.folded is None


def test_folding_is_for_adapters_that_are_wide_for_their_layers(models: dict[str, Path]) -> None:
    assert load(models["llama"], TrainConfig(), "lora", rank=16).folded is not None
    assert load(models["llama"], TrainConfig(), "lora", rank=1).folded is None


def test_folded_weights_step_like_those_beside(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    train, rows = TrainConfig(weight_decay=0.1), rows_of_problems()
    folded = load(models["llama"], train, "lora", rank=16)
    with beside(monkeypatch):
        plain = load(models["llama"], train, "lora", rank=16)
    assert folded.folded is not None
    assert plain.folded is None
    before = folded.logprobs(rows, 1.0).detach()
    for policy in (folded, plain):
        for _ in range(3):
            policy.update([rows], train, 1.0, 1e-2, lambda: False)
    after = folded.logprobs(rows, 1.0).detach()
    assert float((after - before).abs().max()) > 0.01
    assert torch.allclose(after, plain.logprobs(rows, 1.0), atol=1e-3)
    assert folded.base.config._attn_implementation != attention.NAME
