from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.ttrl_engine.test_policy import some_rows
from ttrl_engine import streaming
from ttrl_engine.asking import Asking
from ttrl_engine.compare import MOST_GROWING, answer_all, answer_both
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
    sides = answer_both(Asking(tmp_path, config, 5, 1.0, 30, seed=3), PROBLEM)
    assert [a["text"] for a in sides["base"]["answers"]] == [a["text"] for a in sides["adapted"]["answers"]]


def test_both_sides_say_what_was_answered_and_why_not(tiny_model: Path, tmp_path: Path) -> None:
    config = trained(tiny_model, tmp_path, "lora", rate=0.05)
    seen: list[tuple[int, int]] = []
    sides = answer_both(
        Asking(tmp_path, config, 5, 1.0, 30, seed=3), PROBLEM, on_progress=lambda *progress: seen.append(progress)
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
        answer_both(Asking(tmp_path / "gone", config, 2, 1.0, 8, seed=0), PROBLEM)
    with pytest.raises(StopRequested):
        answer_both(Asking(tmp_path / "here", config, 2, 1.0, 8, seed=0), PROBLEM, should_stop=lambda: True)


def test_answers_are_shown_while_they_grow_and_are_the_same_for_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trained(tiny_model, tmp_path, "lora", rate=0.05)
    unseen = answer_both(Asking(tmp_path, config, 10, 1.0, 30, seed=3), PROBLEM)
    monkeypatch.setattr(streaming, "LOOK_EVERY_S", 0.0)
    told: list[tuple[str, dict[str, Any]]] = []
    seen = answer_both(
        Asking(tmp_path, config, 10, 1.0, 30, seed=3), PROBLEM, on_side=lambda name, side: told.append((name, side))
    )
    assert seen == unseen
    assert [name for name, _ in told] == sorted((name for name, _ in told), reverse=True), "one side after the other"
    for name in ("base", "adapted"):
        own = [side for told_name, side in told if told_name == name]
        growing = [side["growing"] for side in own if "growing" in side]
        assert own[-1] == seen[name]
        assert len(growing) > 5
        lengths = [[each["length"] for each in looked] for looked in growing[1:]]
        assert all(len(each) == MOST_GROWING for each in lengths)
        assert all(a <= b for before, after in pairwise(lengths) for a, b in zip(before, after, strict=True))
        for index, last in enumerate(growing[-1]):
            whole = seen[name]["answers"][index]
            assert whole["text"].startswith(last["text"].rstrip("\ufffd"))
            assert not last["ended"] or last["length"] == whole["length"]


def test_a_problem_gets_the_same_answers_alone_and_in_a_set(tiny_model: Path, tmp_path: Path) -> None:
    config = trained(tiny_model, tmp_path, "lora", rate=0.05)
    problems = [Problem("one", "What is 2+3?"), Problem("two", "What is 14+5-2?"), Problem("three", "What is 1+1?")]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    seen: list[tuple[int, int]] = []

    def emit(name: str, problem_id: str, side: dict[str, Any]) -> None:
        found[name, problem_id] = side

    known = [("base", "two")]
    answer_all(
        Asking(tmp_path, config, 4, 1.0, 20, seed=3),
        problems,
        emit,
        known,
        on_progress=lambda *progress: seen.append(progress),
    )
    assert set(found) == {(name, each.id) for name in ("base", "adapted") for each in problems} - set(known)
    assert seen[-1] == (24, 24)
    assert seen == sorted(seen)
    for problem in problems:
        alone = answer_both(Asking(tmp_path, config, 4, 1.0, 20, seed=3), problem)
        for name in ("base", "adapted"):
            assert (name, problem.id) in known or found[name, problem.id] == alone[name]


def test_a_comparison_over_a_set_can_be_stopped(tiny_model: Path, tmp_path: Path) -> None:
    config = trained(tiny_model, tmp_path, "lora", rate=0.0)
    with pytest.raises(StopRequested):
        answer_all(Asking(tmp_path, config, 2, 1.0, 8, seed=0), [PROBLEM], lambda *_: None, should_stop=lambda: True)
