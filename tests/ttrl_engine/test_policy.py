import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tests.ttrl_engine.tiny import CHARACTERS, write_tiny_model
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.packing import Pack, Padded
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.ranks import Ranks


def some_rows(seed: int = 0, count: int = 12) -> list[TrainRow]:
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens = tuple(draw.randrange(2, 60) for _ in range(draw.randrange(1, 20)))
        prompt = tuple(draw.randrange(2, 60) for _ in range(draw.randrange(2, 9)))
        rows.append(TrainRow(prompt, tokens, tuple(-draw.random() for _ in tokens), draw.choice([-0.5, 0.0, 0.5, 1.0])))
    return rows


def gradients(policy: Policy) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in policy.parameters if p.grad is not None])


def gradient_of_update(policy: Policy, rows: list[TrainRow], train: TrainConfig) -> torch.Tensor:
    """The gradient that the optimizer is handed."""
    seen: list[torch.Tensor] = []
    policy.optimizer.step = lambda *_: seen.append(gradients(policy).clone())  # type: ignore[method-assign]
    policy.update([rows], train, 1.0, 0.0, lambda: False)
    return seen[0]


def test_rows_without_advantage_only_count_in_the_mean(policy: Policy) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    active = [row for row in rows if row.advantage]
    share = sum(len(row.tokens) for row in active) / sum(len(row.tokens) for row in rows)
    alone = gradient_of_update(policy, active, train)
    assert ((gradient_of_update(policy, rows, train) - alone * share).norm() / alone.norm()) < 1e-5


def test_no_advantage_anywhere_moves_no_weight(policy: Policy) -> None:
    before = torch.cat([p.detach().flatten().clone() for p in policy.parameters])
    rows = [TrainRow(row.prompt_ids, row.tokens, row.old_logprobs, 0.0) for row in some_rows()]
    stats = policy.update([rows], TrainConfig(), 1.0, 1e-2, lambda: False)
    assert stats.num_optimizer_steps == 0
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.parameters]))


def test_an_update_makes_rewarded_answers_likelier(policy: Policy) -> None:
    rows = [TrainRow(r.prompt_ids, r.tokens, r.old_logprobs, 1.0) for r in some_rows(count=1)]
    exact = policy.logprobs(rows, 1.0).tolist()
    rows = [TrainRow(rows[0].prompt_ids, rows[0].tokens, tuple(exact), 1.0)]
    policy.update([rows], TrainConfig(), 1.0, 1e-3, lambda: False)
    assert float(policy.logprobs(rows, 1.0).sum()) > sum(exact)


def test_kl_is_zero_at_the_base_and_positive_after_a_step(tiny_model: Path) -> None:
    train = TrainConfig(kl_coef=0.1)
    for method in ("lora", "full"):
        policy = Policy.load(ModelConfig(source=str(tiny_model), method=method), HardwareConfig(device="cpu"), train)
        first = policy.update([some_rows()], train, 1.0, 1e-2, lambda: False)
        second = policy.update([some_rows()], train, 1.0, 1e-2, lambda: False)
        assert first.kl_base == pytest.approx(0.0, abs=1e-6)
        assert second.kl_base is not None
        assert second.kl_base > 1e-6


class Full:
    """A scorer's `logprobs` that runs out of memory where `fails` says so: (call number, positions, checkpointing)."""

    def __init__(self, policy: Policy, fails: Callable[[int, int, bool], bool]) -> None:
        self.policy, self.fails, self.calls = policy, fails, 0
        self.score = policy.scorer.logprobs

    def __call__(self, model: PreTrainedModel, batch: Pack | Padded, temperature: float) -> torch.Tensor:
        self.calls += 1
        if self.fails(self.calls, batch.ids.numel(), self.policy.checkpointing):
            raise torch.OutOfMemoryError("no room")
        return self.score(model, batch, temperature)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_out_of_memory_halves_the_budget_and_repeats(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    config = ModelConfig.model_validate({"source": str(tiny_model), "method": method})
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    policy.tokens_per_batch = 80
    # The second micro-batch fails, when the first has left its gradient already, then the first of the repetition.
    monkeypatch.setattr(policy.scorer, "logprobs", Full(policy, lambda call, *_: call in (2, 3)))
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5
    assert policy.tokens_per_batch == max(20, *(row.length for row in rows))
    assert not policy.checkpointing


def test_what_others_hold_without_need_goes_before_the_budget(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    budget, held = policy.tokens_per_batch, [True]
    policy.others_give_back = lambda: bool(held and held.pop())
    monkeypatch.setattr(policy.scorer, "logprobs", Full(policy, lambda call, *_: call == 1))
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5
    assert (policy.tokens_per_batch, policy.checkpointing, held) == (budget, False, [])
    monkeypatch.setattr(policy.scorer, "logprobs", Full(policy, lambda call, *_: call == 1))
    gradient_of_update(policy, rows, train)
    assert policy.tokens_per_batch < budget


def test_at_the_longest_row_activations_are_checkpointed(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    monkeypatch.setattr(policy.scorer, "logprobs", Full(policy, lambda _, __, checkpointing: not checkpointing))
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5
    assert policy.checkpointing
    assert policy.tokens_per_batch == max(row.length for row in rows)


def test_out_of_memory_with_one_row_says_what_to_do(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.cat([p.detach().flatten().clone() for p in policy.parameters])
    monkeypatch.setattr(policy.scorer, "logprobs", Full(policy, lambda *_: True))
    with pytest.raises(RunError, match=r"activations take about .* GiB.*Lower the longest answer"):
        policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: False)
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.parameters]))


def test_another_error_is_not_taken_for_a_lack_of_memory(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(policy.scorer, "logprobs", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: False)


ALLOCATOR_FAILURE = """
import resource, sys, torch
torch.set_num_threads(1)
from tests.ttrl_engine.test_policy import gradient_of_update
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.policy import Policy, TrainRow

train = TrainConfig(max_grad_norm=1000.0)
policy = Policy.load(ModelConfig(source=sys.argv[1], method="full"), HardwareConfig(device="cpu"), train)
rows = [
    TrainRow((2, 3, i % 5), tuple(2 + (i + j) % 60 for j in range(60)), (-3.0,) * 60, 0.1 * (i % 3))
    for i in range(640)
]
policy.tokens_per_batch = 2_000
whole = gradient_of_update(policy, rows, train)
policy.tokens_per_batch = 100_000
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (16 << 20), resource.RLIM_INFINITY))
limited = gradient_of_update(policy, rows, train)
print(policy.tokens_per_batch, float((limited - whole).norm() / whole.norm()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space are enforced on Linux")
def test_a_full_machine_halves_the_budget_too(tiny_model: Path) -> None:
    """The allocator of the CPU refuses, for real."""
    ended = subprocess.run(
        [sys.executable, "-c", ALLOCATOR_FAILURE, str(tiny_model)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    budget, error = ended.stdout.split()
    assert 63 <= int(budget) < 100_000
    assert float(error) < 1e-5


def test_a_cap_holds_the_weight_of_tokens_the_sampler_found_rarer(policy: Policy) -> None:
    rows = some_rows(count=4)
    exact = policy.logprobs(rows, 1.0).tolist()
    at, shifted = 0, []
    for row in rows:
        logprobs = [value - 2.0 for value in exact[at : at + len(row.tokens)]]
        at += len(row.tokens)
        shifted.append(TrainRow(row.prompt_ids, row.tokens, tuple(logprobs), 1.0))
    stats = policy.update([shifted], TrainConfig(importance_cap=2.0), 1.0, 0.0, lambda: False)
    assert stats.capped_share == 1.0
    assert stats.mismatch == pytest.approx(2.0, abs=1e-4)
    assert stats.mismatch_max == pytest.approx(2.0, abs=1e-4)
    free = policy.update([shifted], TrainConfig(importance_cap=None), 1.0, 0.0, lambda: False)
    assert free.capped_share == 0.0
    assert stats.grad_norm == pytest.approx(2.0 * free.grad_norm, rel=1e-4)


def test_a_stop_in_the_update_leaves_the_weights_alone(policy: Policy) -> None:
    from ttrl_engine.sampler import StopRequested

    before = torch.cat([p.detach().flatten().clone() for p in policy.parameters])
    with pytest.raises(StopRequested):
        policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: True)
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.parameters]))


def test_a_rank_without_rows_updates_a_model_with_a_window(tmp_path: Path) -> None:
    import transformers

    config = transformers.MistralConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=12,
    )
    folder = write_tiny_model(tmp_path, architecture=config)
    policy = Policy.load(ModelConfig(source=str(folder), method="full"), HardwareConfig(device="cpu"), TrainConfig())
    assert policy.scorer.lay_out is not None
    ranks = Ranks()
    ranks.even_share = lambda items, weight: items[:0]  # type: ignore[method-assign]  # noqa: ARG005
    before = policy.fingerprint()
    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False, ranks)
    assert policy.shift([], 1.0) == 0.0
    assert policy.fingerprint() == before


@pytest.mark.parametrize("fused", [False, True])
def test_moments_are_there_from_the_start_and_step_like_those_that_torch_makes(tiny_model: Path, fused: bool) -> None:
    config = ModelConfig(source=str(tiny_model), method="full")
    found = []
    for lazy in (False, True):
        policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
        policy.optimizer = torch.optim.AdamW(policy.parameters, lr=0.0, fused=fused)
        if not lazy:
            policy._make_moments()
            assert {len(state) for state in policy.optimizer.state.values()} == {3}
            assert len(policy.optimizer.state) == len(policy.parameters)
        for seed in range(2):
            policy.update([some_rows(seed)], TrainConfig(), 1.0, 1e-2, lambda: False)
        found.append((policy.fingerprint(), policy.optimizer.state_dict()["state"]))
    (ready, mine), (made, theirs) = found
    assert ready == made
    assert mine.keys() == theirs.keys()
    for parameter, state in theirs.items():
        assert list(mine[parameter]) == list(state)
        assert all(torch.equal(mine[parameter][name], value) for name, value in state.items())
        assert all(mine[parameter][name].dtype == value.dtype for name, value in state.items())


def test_a_loaded_policy_has_its_moments_already(policy: Policy) -> None:
    assert policy.optimizer.state.keys() == set(policy.parameters)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_saved_weights_come_back_exactly(tiny_model: Path, tmp_path: Path, method: str) -> None:
    config = ModelConfig.model_validate({"source": str(tiny_model), "method": method})
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False)
    policy.save(tmp_path)
    fresh = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    rows = some_rows(1)
    assert not torch.equal(fresh.logprobs(rows, 1.0), policy.logprobs(rows, 1.0))
    fresh.load_weights(tmp_path)
    assert torch.equal(fresh.logprobs(rows, 1.0), policy.logprobs(rows, 1.0))


def test_weights_that_evaluation_would_change_in_place_are_saved_as_they_were(tmp_path: Path) -> None:
    """RWKV divides the weights beyond its sixth layer where it is left to itself."""
    import transformers

    config = transformers.RwkvConfig(
        vocab_size=len(CHARACTERS), hidden_size=32, attention_hidden_size=32, num_hidden_layers=8, context_length=64
    )
    folder = write_tiny_model(tmp_path / "base", architecture=config)
    policy = Policy.load(ModelConfig(source=str(folder), method="full"), HardwareConfig(device="cpu"), TrainConfig())
    policy.logprobs(some_rows(), 1.0)
    policy.save(tmp_path / "policy")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "policy"))
    assert all(torch.equal(before[name], weight) for name, weight in after.items())


def test_the_base_is_there_while_the_adapter_is_off(tiny_model: Path) -> None:
    config = ModelConfig(source=str(tiny_model), method="lora")
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    rows = some_rows(1)
    base = policy.logprobs(rows, 1.0)
    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False)
    with policy.as_base() as model:
        assert torch.allclose(policy.logprobs(rows, 1.0, model), base, atol=1e-6)


def test_a_missing_model_says_where_it_looked() -> None:
    with pytest.raises(ModelError, match="/nowhere"):
        Policy.load(ModelConfig(source="/nowhere/at/all"), HardwareConfig(), TrainConfig())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradient_checkpointing_is_on_and_changes_nothing(tiny_model: Path, method: str) -> None:
    config = ModelConfig.model_validate({"source": str(tiny_model), "method": method})
    found = []
    for checkpointing in (False, True):
        train = TrainConfig(max_grad_norm=1000.0, gradient_checkpointing=checkpointing)
        torch.manual_seed(0)
        policy = Policy.load(config, HardwareConfig(device="cpu"), train)
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        policy.base.get_decoder().layers[0].mlp.register_forward_pre_hook(count)
        found.append((gradient_of_update(policy, some_rows(), train), calls))
        assert not policy.model.training
    (plain, once), (recomputed, twice) = found
    assert torch.allclose(plain, recomputed, atol=1e-7)
    assert twice == 2 * once
