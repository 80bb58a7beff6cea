"""A run whose updates run out of memory goes on in smaller pieces, says so once, and remembers it over a resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.ttrl_engine.test_trainer import small_config, train
from ttrl_engine.checkpoint import list_checkpoints, load_state
from ttrl_engine.events import Event, Noted
from ttrl_engine.out_of_memory import is_out_of_memory
from ttrl_engine.packing import Pack
from ttrl_engine.policy import Policy
from ttrl_engine.scoring import Scorer

CHANGES: dict[str, Any] = {"evaluate.every_steps": 0, "train.max_steps": 3, "data.held_out_share": 0.0}
CONFIG = small_config(**CHANGES)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (torch.OutOfMemoryError("no room"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(failure: Exception, expected: bool) -> None:
    assert is_out_of_memory(failure) == expected


class Updates:
    """Sees every micro-batch of every update, and refuses some: called with the step's number and the policy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_too_large: Callable[[int, Policy], bool]) -> None:
        self.step = 0
        self.tried: list[tuple[int, int, bool, bool]] = []  # step, tokens, checkpointing, prompts shared
        update, accumulate, arrange = Policy.update, Policy._accumulate, Scorer.arrange
        seen = self

        def counted(policy: Policy, *rest: Any, **named: Any) -> Any:
            seen.step += 1
            return update(policy, *rest, **named)

        def refused(policy: Policy, *rest: Any) -> None:
            if is_too_large(seen.step, policy):
                raise torch.OutOfMemoryError("no room")
            accumulate(policy, *rest)

        def watched(scorer: Scorer, rows: Any, share: bool) -> Any:
            batch = arrange(scorer, rows, share)
            if torch.is_grad_enabled():
                shares = isinstance(batch, Pack) and batch.shares_prompts
                seen.tried.append((seen.step, batch.ids.numel(), not share, shares))
            return batch

        monkeypatch.setattr(Policy, "update", counted)
        monkeypatch.setattr(Policy, "_accumulate", refused)
        monkeypatch.setattr(Scorer, "arrange", watched)


def warnings(events: list[Event]) -> list[Noted]:
    return [event for event in events if isinstance(event, Noted) and "Memory ran out" in event.message]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roomy")
    train(folder, CONFIG)
    return folder


def assert_close(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "policy" / "adapter_model.safetensors") for folder in (one, two))
    off, size = (
        torch.cat([part.flatten() for part in parts]).norm()
        for parts in ([first[name] - second[name] for name in first], list(first.values()))
    )
    assert float(off / size) < 1e-4


def test_checkpointing_that_went_on_is_told_once_and_outlives_a_resume(
    roomy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = Updates(monkeypatch, lambda step, policy: step >= 2 and not policy.checkpointing)
    events = train(tmp_path, CONFIG, stop_after=2)
    smaller, checkpointed = warnings(events)
    budget = load_state(list_checkpoints(tmp_path)[-1][1]).tokens_per_batch
    assert (smaller.step, checkpointed.step) == (2, 2)
    assert f"to {budget:,} tokens" in smaller.message
    assert f"step 2 with {budget:,} tokens" in checkpointed.message
    assert "gradient checkpointing is on" in checkpointed.message
    states = {step: load_state(path) for step, path in list_checkpoints(tmp_path)}
    assert [states[step].checkpointing for step in (1, 2)] == [False, True]

    # In the process that goes on there is just as little room.
    assert warnings(train(tmp_path, CONFIG)) == []
    assert load_state(list_checkpoints(tmp_path)[-1][1]).checkpointing
    shared = {(step, checkpointing, shares) for step, _, checkpointing, shares in updates.tried}
    assert shared == {(1, False, True), (2, True, False), (3, True, False)}
    assert_close(tmp_path, roomy)


def test_a_smaller_budget_is_told_with_its_step_and_outlives_a_resume(
    roomy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_state(list_checkpoints(roomy)[-1][1]).tokens_per_batch
    updates = Updates(monkeypatch, lambda step, policy: step >= 2 and policy.tokens_per_batch > whole // 4)
    [told] = warnings(train(tmp_path, CONFIG, stop_after=2))
    assert told.step == 2
    assert f"step 2, so micro-batches went from {whole:,} to {whole // 4:,}" in told.message
    assert warnings(train(tmp_path, CONFIG)) == []
    assert max(tokens for step, tokens, *_ in updates.tried if step == 3) <= whole // 4
    assert not load_state(list_checkpoints(tmp_path)[-1][1]).checkpointing
    assert_close(tmp_path, roomy)


def test_a_checkpoint_from_before_the_flag_is_read(roomy: Path, tmp_path: Path) -> None:
    path = shutil.copytree(list_checkpoints(roomy)[-1][1], tmp_path / "step-000003")
    data = json.loads((path / "state.json").read_text())
    del data["checkpointing"]
    (path / "state.json").write_text(json.dumps(data))
    assert not load_state(path).checkpointing


def test_checkpointing_that_the_config_asks_for_is_not_told_as_a_lack_of_memory(tmp_path: Path) -> None:
    config = small_config(**{**CHANGES, "train.max_steps": 2, "train.gradient_checkpointing": True})
    train(tmp_path, config, stop_after=1)
    [(_, path)] = list_checkpoints(tmp_path)
    data = json.loads((path / "state.json").read_text())
    del data["checkpointing"]
    (path / "state.json").write_text(json.dumps(data))
    assert warnings(train(tmp_path, config)) == []
