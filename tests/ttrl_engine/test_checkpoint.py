import dataclasses
import random
import shutil
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ttrl_engine.test_policy import some_rows
from ttrl_engine.checkpoint import RunState, keep_healthy, list_checkpoints, load_state, restore, save_checkpoint
from ttrl_engine.config import TrainConfig
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


@pytest.mark.parametrize("num_states", [1, 4])
def test_of_gpus_only_the_one_in_use_has_a_random_state(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_states: int
) -> None:
    """Older checkpoints have one per GPU that could be seen, of which there may be fewer now."""
    given: list[tuple[torch.Tensor, torch.device]] = []
    gpu, state = torch.device("cuda"), torch.arange(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state if device == gpu else None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *both: given.append(both))
    with monkeypatch.context() as patch:
        patch.setattr(Policy, "device", gpu)
        path = save_checkpoint(tmp_path, policy, state_at(1), keep=2)
        saved = torch.load(path / "optimizer.pt", weights_only=True)
        assert [each.tolist() for each in saved["random"]["cuda"]] == [state.tolist()]
        saved["random"]["cuda"] = [state + number for number in range(num_states)]
        torch.save(saved, path / "optimizer.pt")
        restore(path, policy)
    [(taken, device)] = given
    assert (taken.tolist(), device) == (state.tolist(), gpu)
    restore(path, policy)
    assert len(given) == 1, "a run on a CPU leaves GPUs alone"


def test_moments_are_restored_without_a_second_set_and_to_every_weight(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False)
    path = save_checkpoint(tmp_path, policy, state_at(1), keep=2)
    expected = {index: state["exp_avg"].clone() for index, state in policy.optimizer.state_dict()["state"].items()}
    file = path / "optimizer.pt"
    saved = torch.load(file, weights_only=True)
    # As an older version left it, for a weight without a gradient so far.
    expected[0] = torch.zeros_like(saved["optimizer"]["state"].pop(0)["exp_avg"])
    torch.save(saved, file)
    policy.update([some_rows(1)], TrainConfig(), 1.0, 1e-2, lambda: False)

    load = policy.optimizer.load_state_dict
    before = [weakref.ref(state["exp_avg"]) for state in policy.optimizer.state.values()]

    def watched(state: dict[str, Any]) -> None:
        assert not any(moment() is not None for moment in before)
        load(state)

    monkeypatch.setattr(policy.optimizer, "load_state_dict", watched)
    restore(path, policy)
    found = policy.optimizer.state_dict()["state"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[index]["exp_avg"], moment) for index, moment in expected.items())


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
