"""A run in several real processes, started by torchrun, gives what one process gives."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.ttrl_engine.test_trainer import small_config, train
from ttrl_engine.checkpoint import list_checkpoints, load_state
from ttrl_engine.events import StepFinished
from ttrl_engine.ranks import Ranks

# Waiting for one another, ranks of the same share would spin on the cores that the others need.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
CHANGES: dict[str, Any] = {
    "train.problems_per_step": 5,
    "train.max_steps": 3,
    "train.learning_rate": 2e-4,
    "train.updates_per_step": 2,
    "evaluate.every_steps": 0,
    "checkpoint.every_steps": 2,
    "hardware.gpus": 2,
}


def start(folder: Path, **changes: Any) -> subprocess.Popen[str]:
    """`python -m ttrl_engine` with a config file; its events are in `events.jsonl` beside the run."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(small_config(**{**CHANGES, **changes}).to_yaml(), encoding="utf-8")
    with (folder / "events.jsonl").open("w") as out, (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ttrl_engine", str(config), str(folder)],
            stdout=out,
            stderr=log,
            text=True,
            env=ENVIRONMENT,
        )


def run(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    process = start(folder, **changes)
    assert process.wait(120) == 0, (folder / "log.txt").read_text()
    return told(folder)


def told(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def rollouts(folder: Path, step: int) -> list[dict[str, Any]]:
    with gzip.open(folder / "rollouts" / f"step-{step:06d}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def of_kind(events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == kind]


def wait_for(folder: Path, kind: str) -> None:
    wait_until(lambda: bool(of_kind(told(folder), kind)), folder)


def wait_until(holds: Callable[[], bool], folder: Path, timeout_s: float = 90.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, (folder / "log.txt").read_text()
        time.sleep(0.02)


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    found = [child for child in children if "ttrl_engine" in child.cmdline()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, run(folder, **{"hardware.gpus": 1})


def assert_same_weights(one_rank: Path, folder: Path) -> None:
    one, two = weights(one_rank), weights(folder)
    assert one.keys() == two.keys()
    # Adam divides by the gradient's own size, so what rounding leaves of a gradient near 0 moves a weight by up to a
    # learning rate; another split into micro-batches on one rank does the same.
    difference, size = (
        torch.cat([part.flatten() for part in parts]).norm()
        for parts in ([one[name] - two[name] for name in one], list(one.values()))
    )
    assert float(difference / size) <= 1e-6


def assert_same(alone: tuple[Path, list[dict[str, Any]]], folder: Path, events: list[dict[str, Any]]) -> None:
    assert_same_weights(alone[0], folder)
    for kind in ("step_finished", "evaluation_finished"):
        expected = {(event["step"], event.get("split")): event for event in of_kind(alone[1], kind)}
        for event in of_kind(events, kind):
            was = expected[event["step"], event.get("split")]
            numbers = {**was, **was.get("metrics", {})}
            for name, value in {**event, **event.get("metrics", {})}.items():
                if isinstance(value, float) and name not in ("rollouts_per_s", "seconds"):
                    # The mismatch between sampler and trainer is rounding and nothing else.
                    absolute = 1e-5 if name.startswith("sampler_mismatch") else 1e-6
                    assert value == pytest.approx(numbers[name], rel=1e-5, abs=absolute), name


def test_two_ranks_equal_one(alone: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    events = run(tmp_path)
    for step in (1, 2, 3):
        expected, found = rollouts(alone[0], step), rollouts(tmp_path, step)
        for row in (*expected, *found):
            row.pop("logprob")
        assert expected == found
    assert len(of_kind(events, "run_started")) == 1
    assert [event["problem_id"] for event in of_kind(events, "election_held")] == [
        event["problem_id"] for event in of_kind(alone[1], "election_held")
    ]
    assert_same(alone, tmp_path, events)


def test_a_run_of_two_ranks_stops_at_once_and_goes_on_with_one(
    alone: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    process = start(tmp_path)
    wait_for(tmp_path, "step_finished")
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    first = told(tmp_path)
    assert first[-1]["ending"] == "stopped", (tmp_path / "log.txt").read_text()
    stopped = first[-1]["step"]
    second = run(tmp_path, **{"hardware.gpus": 1})
    assert of_kind(second, "run_started")[0]["first_step"] == stopped + 1
    assert_same(alone, tmp_path, [*first, *second])


@pytest.mark.parametrize("lost", [0, 1])
def test_when_one_rank_is_killed_the_others_end_within_seconds(tmp_path: Path, lost: int) -> None:
    process = start(tmp_path, **{"train.max_steps": None, "train.epochs": 50})
    wait_for(tmp_path, "step_finished")
    both = ranks_of(process)
    assert len(both) == 2
    both[lost].kill()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in both)
    assert "ended by signal 9" in (tmp_path / "log.txt").read_text()


# One micro-batch per rollout, and each of many rollouts in it, so that a signal comes before the update ends.
SLOW_UPDATE: dict[str, Any] = {
    "train.problems_per_step": 2,
    "train.max_steps": 2,
    "train.updates_per_step": 1,
    "train.tokens_per_batch": 64,
    "train.kl_coef": 0.001,
    "vote.num_votes": 24,
    "vote.num_trained": 24,
    "vote.max_new_tokens": 64,
    "checkpoint.every_steps": 1,
    "data.held_out_share": 0.0,
    "evaluate.max_problems": 1,
}


def test_killed_then_stopped_in_the_update_a_run_of_two_ranks_ends_as_if_undisturbed(tmp_path: Path) -> None:
    folder = tmp_path / "disturbed"
    process = start(folder, **SLOW_UPDATE)
    # The last thing before an update.
    wait_until(lambda: (folder / "rollouts" / "step-000002.safetensors").exists(), folder)
    both = ranks_of(process)
    both[1].kill()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert psutil.wait_procs(both, timeout=5)[1] == []
    assert_in_second_update(folder)

    process = start(folder, **SLOW_UPDATE)
    wait_until(lambda: any("not sampled again" in event["message"] for event in of_kind(told(folder), "noted")), folder)
    both = ranks_of(process)
    for rank in both:
        # As torchrun would, but at once.
        rank.terminate()
    assert process.wait(20) == 0
    assert psutil.wait_procs(both, timeout=5)[1] == []
    assert told(folder)[-1]["ending"] == "stopped", (folder / "log.txt").read_text()
    assert_in_second_update(folder)

    config = small_config(**{**CHANGES, **SLOW_UPDATE, "hardware.gpus": 1})
    resumed = [event.step for event in train(folder, config) if isinstance(event, StepFinished)]
    assert resumed == [2]
    train(tmp_path / "whole", config)
    assert_same_weights(tmp_path / "whole", folder)


def assert_in_second_update(folder: Path) -> None:
    """What has ended did so within the update of the second step, and left a whole checkpoint of the first."""
    assert 2 not in [event["step"] for event in of_kind(told(folder), "step_finished")], "the update was over already"
    [(step, checkpoint)] = list_checkpoints(folder)
    assert load_state(checkpoint).step == step == 1


def test_ranks_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    process = start(tmp_path, **{"train.max_steps": None, "train.epochs": 50})
    wait_for(tmp_path, "step_finished")
    both = ranks_of(process)
    process.kill()
    process.wait(5)
    gone, alive = psutil.wait_procs(both, timeout=5)
    assert (len(gone), alive) == (2, [])


def test_an_error_in_every_rank_is_told_and_ends_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, **{"vote.max_new_tokens": 100_000})
    assert process.wait(60) == 2
    assert "max_new_tokens" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_everything_once_and_come_back_in_order(size: int) -> None:
    items = list("abcdefghij")[: 2 * size + 1]
    shares = [Ranks(rank, size).share(items) for rank in range(size)]

    class Gathered(Ranks):
        def gather(self, value: Any) -> list[Any]:  # noqa: ARG002  # what `shares` holds
            return shares

    assert Gathered(0, size).merged(shares[0]) == items


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_even_shares_are_everything_once_and_weigh_about_the_same(size: int) -> None:
    weights = [5, 1, 1, 9, 2, 2, 7, 3, 3, 3, 8, 1, 4, 4]
    shares = [Ranks(rank, size).even_share(weights, lambda weight: weight) for rank in range(size)]
    assert [weight for share in shares for weight in share] == weights
    assert max(sum(share) for share in shares) <= sum(weights) / size + max(weights)
