"""Rollouts that were stored before an update that did not end are not sampled again, and never used for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ttrl_engine.test_trainer import assert_same_weights, facts, small_config, train
from ttrl_engine.events import Event, Noted, RunStarted, StepFinished
from ttrl_engine.problems import load_problem_set
from ttrl_engine.rollout_files import DamagedRolloutsError, forget_tokens, read_tokens, write_tokens
from ttrl_engine.sampler import Rollout, stream_of
from ttrl_engine.torch_sampler import TorchSampler

ROLLOUTS = [
    [Rollout((5, 7, 1), (-0.25, -1.5, -3.000000238418579), "stop"), Rollout((), (), "dropped")],
    [Rollout((9,), (-0.0,), "length")],
]
CHANGES: dict[str, Any] = {
    "evaluate.every_steps": 0,
    "evaluate.max_problems": 2,
    "checkpoint.every_steps": 2,
    "train.max_steps": 4,
    # Several micro-batches per update: every row is in it, and alone.
    "train.tokens_per_batch": 64,
    "train.kl_coef": 0.001,
}
# Kills itself in the update of step 4: as it begins, with a part of its gradient made, or with the weights moved and
# nothing of it saved.
KILLED_IN_UPDATE = """
import os, signal, sys
from pathlib import Path
from tests.ttrl_engine.test_rollout_files import CHANGES
from tests.ttrl_engine.test_trainer import small_config
from ttrl_engine.events import Progressed
from ttrl_engine.policy import Policy
from ttrl_engine.problems import load_problem_set
from ttrl_engine.trainer import run
folder, moment, calls = Path(sys.argv[1]), sys.argv[2], {"_accumulate": 0, "shift": 0}
updating = False
def emit(event):
    global updating
    updating = isinstance(event, Progressed) and (event.step, event.phase) == (4, "updating")
    if updating and moment == "begun":
        os.kill(os.getpid(), signal.SIGKILL)
def watch(name, fatal):
    real = getattr(Policy, name)
    def watched(self, *rest):
        calls[name] += updating
        if updating and calls[name] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *rest)
    setattr(Policy, name, watched)
if moment == "half made":
    watch("_accumulate", 5)
if moment == "moved":
    watch("shift", 1)
run(small_config(**CHANGES), folder, load_problem_set("bundled:sums"), {}, emit)
"""


def test_stored_rollouts_come_back_exactly(tmp_path: Path) -> None:
    write_tokens(tmp_path, 3, "key", ROLLOUTS)
    assert read_tokens(tmp_path, 3, "key") == ROLLOUTS


def test_rollouts_of_other_weights_are_not_read(tmp_path: Path) -> None:
    write_tokens(tmp_path, 3, "key", ROLLOUTS)
    assert read_tokens(tmp_path, 3, "other") is None
    assert read_tokens(tmp_path, 4, "key") is None


@pytest.mark.parametrize("cut", [0, 10, 200, -3])
def test_a_cut_file_is_noticed(tmp_path: Path, cut: int) -> None:
    write_tokens(tmp_path, 3, "key", ROLLOUTS)
    path = tmp_path / "rollouts" / "step-000003.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedRolloutsError):
        read_tokens(tmp_path, 3, "key")


def test_a_changed_token_is_noticed(tmp_path: Path) -> None:
    write_tokens(tmp_path, 3, "key", ROLLOUTS)
    path = tmp_path / "rollouts" / "step-000003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedRolloutsError):
        read_tokens(tmp_path, 3, "key")


def test_only_steps_that_a_checkpoint_has_passed_are_forgotten(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_tokens(tmp_path, step, "key", ROLLOUTS)
    (tmp_path / "rollouts" / "step-000001.jsonl.gz").touch()
    forget_tokens(tmp_path, 2)
    left = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert left == ["step-000001.jsonl.gz", "step-000003.safetensors"]


def kill_in_update(folder: Path, moment: str) -> Path:
    """A run that was killed in the update of step 4, two steps after its last checkpoint."""
    child = subprocess.run(
        [sys.executable, "-c", KILLED_IN_UPDATE, str(folder), moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kill_in_update(tmp_path_factory.mktemp("killed"), "half made")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, small_config(**CHANGES))


def resumed(
    killed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> tuple[list[Event], list[int]]:
    """Goes on with a copy of the killed run; its events, and the steps whose votes were sampled."""
    subprocess.run(["cp", "-r", f"{killed}/.", str(folder)], check=True)
    if damage is not None:
        (folder / "rollouts" / "step-000004.safetensors").write_bytes(damage)
    streams = {
        stream_of(0, "votes", step, problem.id): step
        for step in range(1, 5)
        for problem in load_problem_set("bundled:sums").problems
    }
    sampled: list[int] = []
    sample = TorchSampler.sample

    def counted(self: TorchSampler, requests: Any, *rest: Any) -> Any:
        sampled.extend({streams[request.stream] for request in requests if request.stream in streams})
        return sample(self, requests, *rest)

    monkeypatch.setattr(TorchSampler, "sample", counted)
    return train(folder, small_config(**CHANGES)), sampled


def test_after_a_kill_in_the_update_nothing_is_sampled_again(
    killed: Path, whole: tuple[Path, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, sampled = resumed(killed, tmp_path, monkeypatch, damage=None)
    assert [e.first_step for e in events if isinstance(e, RunStarted)] == [3]
    assert sampled == []
    assert [e.step for e in events if isinstance(e, StepFinished)] == [3, 4]
    assert set(facts(events)) <= set(facts(whole[1]))
    assert_same_weights(tmp_path, whole[0])
    notes = [e.message for e in events if isinstance(e, Noted)]
    assert sum("not sampled again" in note for note in notes) == 1
    assert list((tmp_path / "rollouts").glob("*.safetensors")) == []


@pytest.mark.parametrize("moment", ["begun", "moved"])
def test_whenever_in_the_update_it_is_killed_a_run_ends_bit_for_bit_the_same(
    moment: str, whole: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    kill_in_update(tmp_path, moment)
    events = train(tmp_path, small_config(**CHANGES))
    assert [e.step for e in events if isinstance(e, StepFinished)] == [3, 4]
    assert set(facts(events)) <= set(facts(whole[1]))
    assert_same_weights(tmp_path, whole[0])


def test_damaged_rollouts_are_sampled_again_with_a_note(
    killed: Path, whole: tuple[Path, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, sampled = resumed(killed, tmp_path, monkeypatch, damage=b"not a tensor")
    assert sampled == [4]
    assert any("step 4 cannot be read" in e.message for e in events if isinstance(e, Noted))
    assert_same_weights(tmp_path, whole[0])


def test_the_fingerprint_changes_with_one_bit_of_a_weight(policy: Any) -> None:
    import torch

    before = policy.fingerprint()
    assert policy.fingerprint() == before
    weight = policy.parameters[0]
    with torch.no_grad():
        weight.view(-1)[3] = torch.nextafter(weight.view(-1)[3], torch.tensor(9.0))
    assert policy.fingerprint() != before
