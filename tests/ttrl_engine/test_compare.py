from pathlib import Path

import pytest

from tests.ttrl_engine.test_policy import some_rows
from ttrl_engine.compare import answer_both
from ttrl_engine.config import HardwareConfig, ModelConfig, RunConfig, TrainConfig
from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy
from ttrl_engine.problems import Problem
from ttrl_engine.sampler import StopRequested

PROBLEM = Problem("typed", "What is 2+3?")


def trained(source: Path, folder: Path, method: str, rate: float) -> RunConfig:
    """A policy moved a little (or not at all) and saved, and the config it belongs to."""
    config = RunConfig().with_changes(
        **{"model.source": str(source), "model.method": method, "hardware.device": "cpu", "data.prompt_suffix": ""}
    )
    model = ModelConfig.model_validate(config.model.model_dump())
    policy = Policy.load(model, HardwareConfig(device="cpu"), TrainConfig())
    policy.update([some_rows()], TrainConfig(), 1.0, rate, lambda: False)
    policy.save(folder)
    return config


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_unchanged_policy_answers_as_its_base(tiny_model: Path, tmp_path: Path, method: str) -> None:
    config = trained(tiny_model, tmp_path, method, rate=0.0)
    sides = answer_both(tmp_path, config, PROBLEM, 5, 1.0, 30, seed=3)
    assert [a["text"] for a in sides["base"]["answers"]] == [a["text"] for a in sides["adapted"]["answers"]]


def test_both_sides_say_what_was_answered_and_why_not(tiny_model: Path, tmp_path: Path) -> None:
    config = trained(tiny_model, tmp_path, "lora", rate=0.05)
    seen: list[tuple[int, int]] = []
    sides = answer_both(
        tmp_path, config, PROBLEM, 5, 1.0, 30, seed=3, on_progress=lambda *progress: seen.append(progress)
    )
    assert seen[-1] == (10, 10)
    base, adapted = sides["base"], sides["adapted"]
    assert [a["text"] for a in base["answers"]] != [a["text"] for a in adapted["answers"]]
    for side in (base, adapted):
        assert len(side["answers"]) == 5
        for answer in side["answers"]:
            assert (answer["answer"] is None) == (answer["reason"] is not None) == (answer["class_index"] is None)
        assert sum(each["count"] for each in side["classes"]) == sum(a["answer"] is not None for a in side["answers"])


def test_missing_weights_and_a_stop_are_told_apart(tiny_model: Path, tmp_path: Path) -> None:
    config = trained(tiny_model, tmp_path / "here", "lora", rate=0.0)
    with pytest.raises(RunError, match="no longer on disk"):
        answer_both(tmp_path / "gone", config, PROBLEM, 2, 1.0, 8, seed=0)
    with pytest.raises(StopRequested):
        answer_both(tmp_path / "here", config, PROBLEM, 2, 1.0, 8, seed=0, should_stop=lambda: True)
