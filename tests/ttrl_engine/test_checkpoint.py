import dataclasses
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ttrl_engine.checkpoint import RunState, keep_healthy, list_checkpoints, load_state, restore, save_checkpoint
from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy


def state_at(step: int) -> RunState:
    return RunState(step, 1024, step, "digest", "hash", labels={"a": "12", "b": None}, safeguards={"x": [0.1]})


def test_a_checkpoint_comes_back_with_every_random_state(policy: Policy, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, policy, state_at(3), keep=2)
    expected = (torch.rand(1), random.random(), np.random.rand())
    restore(path, policy)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected
    assert load_state(path) == state_at(3)


def test_only_the_newest_are_kept_and_the_newest_is_last(policy: Policy, tmp_path: Path) -> None:
    for step in (1, 2, 10, 3):
        save_checkpoint(tmp_path, policy, state_at(step), keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [3, 10]


def test_a_half_written_checkpoint_is_never_seen(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, policy, state_at(1), keep=2)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ttrl_engine.checkpoint.torch.save", disk_full)
    with pytest.raises(RunError, match="Free some disk space"):
        save_checkpoint(tmp_path, policy, state_at(2), keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [1]
    assert sorted(child.name for child in (tmp_path / "checkpoints").iterdir()) == ["step-000001"]


def test_a_damaged_older_checkpoint_does_not_undo_a_save(policy: Policy, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, policy, state_at(1), keep=1)
    damaged = save_checkpoint(tmp_path, policy, state_at(2), keep=2)
    (damaged / "state.json").write_text("{", encoding="utf-8")
    sick = dataclasses.replace(state_at(3), healthy=False)
    save_checkpoint(tmp_path, policy, sick, keep=1)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [1, 2, 3]


def test_a_result_that_the_disk_does_not_take_leaves_the_one_before(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, policy, state_at(1), keep=2)
    found = keep_healthy(tmp_path)
    assert found == (1, tmp_path / "policy")
    before = sorted(child.name for child in found[1].iterdir())
    assert "model.safetensors" in before
    assert not {"state.json", "optimizer.pt"} & set(before)

    def disk_full(source: str, target: str, **_: object) -> None:
        raise OSError(28, "No space left on device", target)

    real = shutil.copytree
    monkeypatch.setattr("shutil.copytree", partial(real, copy_function=disk_full))
    with pytest.raises(RunError, match=r"The weights of step 1 could not be written: No space left on device\. Free"):
        keep_healthy(tmp_path)
    assert sorted(child.name for child in found[1].iterdir()) == before


def test_a_damaged_checkpoint_says_which(policy: Policy, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, policy, state_at(1), keep=2)
    (path / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="step-000001"):
        load_state(path)
    (path / "state.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(RunError, match="another version"):
        load_state(path)


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path) == []
