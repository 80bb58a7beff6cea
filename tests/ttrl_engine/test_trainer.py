import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ttrl_engine.config import RunConfig, parse_config
from ttrl_engine.errors import ConfigError, RunError
from ttrl_engine.events import (
    ElectionHeld,
    Ending,
    EvaluationFinished,
    Event,
    HeldOutPolled,
    Noted,
    RunStarted,
    Split,
    StepFinished,
)
from ttrl_engine.problems import ProblemSet, load_problem_set
from ttrl_engine.trainer import run

WALL_CLOCK = ("rollouts_per_s",)


def small_config(**changes: Any) -> RunConfig:
    base = parse_config(
        {
            "data": {"problems": "bundled:sums", "held_out_share": 0.3, "max_problems": 12},
            "vote": {"num_votes": 8, "num_trained": 4, "max_new_tokens": 96},
            "train": {"problems_per_step": 3, "epochs": 2, "learning_rate": 1e-3},
            "evaluate": {"every_steps": 2, "num_samples": 2},
            "checkpoint": {"every_steps": 1, "keep": 100},
            "hardware": {"device": "cpu", "threads": 1},
        }
    )
    return base.with_changes(**changes)


def facts(events: list[Event]) -> list[str]:
    """What a run reports, without wall-clock times and paths."""
    rows = []
    for event in events:
        data = event.as_dict()
        if data["kind"] in ("step_finished", "election_held", "evaluation_finished", "held_out_polled"):
            data.pop("seconds", None)
            data.pop("from_cache", None)
            data["metrics"] = {k: v for k, v in data.get("metrics", {}).items() if k not in WALL_CLOCK}
            rows.append(json.dumps(data, sort_keys=True))
    return rows


def train(
    folder: Path, config: RunConfig, problems: ProblemSet | None = None, stop_after: int | None = None
) -> list[Event]:
    events: list[Event] = []

    def should_stop() -> bool:
        return stop_after is not None and any(isinstance(e, StepFinished) and e.step >= stop_after for e in events)

    run(config, folder, problems or load_problem_set("bundled:sums"), {}, events.append, should_stop)
    return events


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, small_config())


def test_a_run_tells_its_story(whole_run: tuple[Path, list[Event]]) -> None:
    folder, events = whole_run
    [started] = [e for e in events if isinstance(e, RunStarted)]
    assert (started.num_adapt, started.num_held_out, started.total_steps) == (8, 4, 6)
    steps = [e for e in events if isinstance(e, StepFinished)]
    assert [e.step for e in steps] == [1, 2, 3, 4, 5, 6]
    # 8 problems in batches of 3: the last batch of a pass is short, not dropped
    assert [sum(isinstance(e, ElectionHeld) and e.step == s for e in events) for s in range(1, 7)] == [3, 3, 2, 3, 3, 2]
    scored = [(e.step, e.split) for e in events if isinstance(e, EvaluationFinished)]
    assert scored == [(s, split) for s in (0, 2, 4, 6) for split in (Split.ADAPT, Split.HELD_OUT)]
    assert events[-1].as_dict()["ending"] is Ending.COMPLETED
    assert (folder / "policy" / "adapter_model.safetensors").stat().st_size > 0


def test_every_rollout_of_a_step_is_kept(whole_run: tuple[Path, list[Event]]) -> None:
    folder, events = whole_run
    with gzip.open(folder / "rollouts" / "step-000002.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 3 * 8
    assert sum(row["trained"] for row in rows) == 3 * 4
    [election] = [
        e for e in events if isinstance(e, ElectionHeld) and (e.step, e.problem_id) == (2, rows[0]["problem_id"])
    ]
    votes = [row["class_index"] for row in rows if row["problem_id"] == election.problem_id]
    assert votes.count(0) == election.classes[0].count


def test_the_same_seed_gives_the_same_run(whole_run: tuple[Path, list[Event]], tmp_path: Path) -> None:
    assert facts(train(tmp_path, small_config())) == facts(whole_run[1])
    assert facts(train(tmp_path / "other", small_config(seed=1))) != facts(whole_run[1])


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_stopped_run_goes_on_bit_for_bit(
    whole_run: tuple[Path, list[Event]], tmp_path: Path, stop_after: int
) -> None:
    first = train(tmp_path, small_config(), stop_after=stop_after)
    assert first[-1].as_dict()["ending"] is Ending.STOPPED
    second = train(tmp_path, small_config())
    assert [e.first_step for e in second if isinstance(e, RunStarted)] == [stop_after + 1]
    assert sorted(facts(first) + facts(second)) == sorted(facts(whole_run[1]))
    assert_same_weights(tmp_path, whole_run[0])


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.ttrl_engine.test_trainer import small_config
from ttrl_engine.events import Progressed
from ttrl_engine.problems import load_problem_set
from ttrl_engine.trainer import run
step, phase, done = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def emit(event):
    if isinstance(event, Progressed) and (event.step, event.phase) == (step, phase) and event.done >= done:
        os.kill(os.getpid(), signal.SIGKILL)
run(small_config(), Path(sys.argv[1]), load_problem_set("bundled:sums"), {}, emit)
"""


@pytest.mark.parametrize(
    ("step", "phase", "done"),
    [(3, "sampling", 0), (5, "updating", 0), (4, "saving", 0), (2, "evaluating", 0)],
)
def test_a_killed_run_goes_on_bit_for_bit(
    whole_run: tuple[Path, list[Event]], tmp_path: Path, step: int, phase: str, done: int
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), str(step), phase, str(done)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    resumed = train(tmp_path, small_config())
    [started] = [e for e in resumed if isinstance(e, RunStarted)]
    assert 1 < started.first_step <= step
    again = {fact for fact in facts(whole_run[1]) if json.loads(fact)["step"] >= started.first_step}
    assert again <= set(facts(resumed)) <= set(facts(whole_run[1]))
    assert_same_weights(tmp_path, whole_run[0])


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = (load_file(folder / "policy" / "adapter_model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_reference_answer_reaches_a_weight(whole_run: tuple[Path, list[Event]], tmp_path: Path) -> None:
    honest = load_problem_set("bundled:sums")
    corrupt = dataclasses.replace(honest, references=dict.fromkeys(honest.references, "-123456789"))
    events = train(tmp_path, small_config(), corrupt)
    assert_same_weights(tmp_path, whole_run[0])
    wrong = [e for e in events if isinstance(e, StepFinished)]
    right = [e for e in whole_run[1] if isinstance(e, StepFinished)]
    assert all(e.metrics["label_accuracy"] == 0.0 for e in wrong)
    assert any(e.metrics["label_accuracy"] > 0.0 for e in right)


def test_without_references_nothing_is_claimed_and_held_out_problems_are_polled_alike(
    whole_run: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    unlabelled = dataclasses.replace(load_problem_set("bundled:sums"), references={})
    events = train(tmp_path, small_config(**{"train.max_steps": 1}), unlabelled)
    base, *later = [e for e in events if isinstance(e, HeldOutPolled)]
    assert base.metrics == next(e for e in whole_run[1] if isinstance(e, HeldOutPolled)).metrics
    assert set(base.metrics) == {"held_out_consensus", "held_out_num_classes", "held_out_answer_entropy"}
    assert [poll.step for poll in later] == [1]
    assert not [e for e in events if isinstance(e, EvaluationFinished)]
    [step] = [e for e in events if isinstance(e, StepFinished)]
    assert "label_accuracy" not in step.metrics
    assert "reward_accuracy" not in step.metrics
    assert all(e.label_correct is None and e.truth_share is None for e in events if isinstance(e, ElectionHeld))


def test_an_answer_longer_than_the_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens"):
        train(tmp_path, small_config(**{"vote.max_new_tokens": 100_000}))


def test_problems_too_long_are_left_out_and_named(tmp_path: Path) -> None:
    honest = load_problem_set("bundled:sums")
    first = dataclasses.replace(honest.problems[0], prompt="1 + 1 " * 100)
    longer = dataclasses.replace(honest, problems=(first, *honest.problems[1:]))
    changes = {
        "data.max_problems": None,
        "data.max_prompt_tokens": 150,
        "train.max_steps": 1,
        "evaluate.max_problems": 2,
    }
    events = train(tmp_path, small_config(**changes), longer)
    assert any(first.id in e.message for e in events if isinstance(e, Noted))


def test_a_folder_of_another_run_is_refused(whole_run: tuple[Path, list[Event]]) -> None:
    with pytest.raises(RunError, match="another config"):
        train(whole_run[0], small_config(seed=5))
