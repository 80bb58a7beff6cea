import random
from pathlib import Path

import pytest
import torch

from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.policy import Policy, TrainRow, micro_batches


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


def naive_gradient(policy: Policy, rows: list[TrainRow], clip: float) -> torch.Tensor:
    """One row at a time, full logits, the textbook formula."""
    policy.optimizer.zero_grad()
    total = sum(len(row.tokens) for row in rows)
    for row in rows:
        logits = policy.base(torch.tensor([row.prompt_ids + row.tokens])).logits[0].log_softmax(-1)
        for j, token in enumerate(row.tokens):
            ratio = (logits[len(row.prompt_ids) - 1 + j, token] - row.old_logprobs[j]).exp()
            gain = torch.minimum(ratio * row.advantage, ratio.clamp(1 - clip, 1 + clip) * row.advantage)
            if row.advantage < 0:
                gain = torch.maximum(gain, torch.tensor(3.0 * row.advantage))
            (-gain / total).backward(retain_graph=True)
    return gradients(policy)


def test_the_gradient_is_that_of_the_textbook_formula(policy: Policy) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    ours = gradient_of_update(policy, rows, train)
    naive = naive_gradient(policy, rows, 0.2)
    assert ((ours - naive).norm() / naive.norm()) < 1e-5


def test_the_size_of_micro_batches_does_not_change_the_gradient(policy: Policy) -> None:
    rows, train = some_rows(count=30), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    policy.tokens_per_batch = 40
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5


def test_chunking_the_head_does_not_change_the_gradient(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    monkeypatch.setattr("ttrl_engine.policy.HEAD_CHUNK", 7 * policy.base.config.vocab_size)
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5


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


def test_out_of_memory_halves_the_budget_and_repeats(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, train = some_rows(), TrainConfig(max_grad_norm=1000.0)
    whole = gradient_of_update(policy, rows, train)
    score, failures = policy.logprobs, iter([True, False, True])

    def sometimes_full(*args: object, **kwargs: object) -> torch.Tensor:
        if next(failures, False):
            raise torch.OutOfMemoryError("no room")
        return score(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "logprobs", sometimes_full)
    budget = policy.tokens_per_batch
    assert ((gradient_of_update(policy, rows, train) - whole).norm() / whole.norm()) < 1e-5
    assert policy.tokens_per_batch < budget


def test_out_of_memory_with_one_row_says_what_to_do(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(policy, "logprobs", full)
    with pytest.raises(RunError, match="Lower the longest answer"):
        policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: False)


def test_a_stop_in_the_update_leaves_the_weights_alone(policy: Policy) -> None:
    from ttrl_engine.sampler import StopRequested

    before = torch.cat([p.detach().flatten().clone() for p in policy.parameters])
    with pytest.raises(StopRequested):
        policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: True)
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.parameters]))


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


def test_the_base_is_there_while_the_adapter_is_off(tiny_model: Path) -> None:
    config = ModelConfig(source=str(tiny_model), method="lora")
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    rows = some_rows(1)
    base = policy.logprobs(rows, 1.0)
    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False)
    with policy.as_base() as model:
        assert torch.allclose(policy.logprobs(rows, 1.0, model), base, atol=1e-6)


def test_micro_batches_hold_every_row_once_within_the_budget() -> None:
    rows = some_rows(count=40)
    batches = list(micro_batches(rows, 60))
    assert sorted(map(id, rows)) == sorted(id(row) for batch in batches for row in batch)
    assert all(len(batch) * max(row.length for row in batch) <= 60 or len(batch) == 1 for batch in batches)


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
