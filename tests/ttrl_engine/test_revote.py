"""Elections held again from what a real run left on disk."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.ttrl_engine.test_trainer import small_config, train
from ttrl_engine.config import AnswerConfig, Merge
from ttrl_engine.events import ElectionHeld
from ttrl_engine.problems import Problem, load_problem_set
from ttrl_engine.revote import hold_again, read_rollouts, revote, rollout_path
from ttrl_engine.tasks import get_task

SHORT = {"train.max_steps": 2, "evaluate.every_steps": 0, "evaluate.num_samples": 1, "vote.min_consensus": 0.3}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ElectionHeld]]:
    folder = tmp_path_factory.mktemp("past")
    return folder, [event for event in train(folder, small_config(**SHORT)) if isinstance(event, ElectionHeld)]


def again(folder: Path, step: int, answers: AnswerConfig):
    problems = load_problem_set("bundled:sums")
    known = {problem.id: problem for problem in problems.problems}
    rows = read_rollouts(folder, step)
    return revote(rows, known, problems.references, answers, small_config(**SHORT).vote)


def test_under_the_runs_own_rule_the_elections_are_those_that_were_held(past):
    folder, events = past
    answers = load_problem_set("bundled:sums").answers
    for step in (1, 2):
        held = {event.problem_id: event for event in events if event.step == step}
        found = again(folder, step, answers)
        assert {each.problem.id for each in found} == held.keys()
        for each in found:
            event = held[each.problem.id]
            assert each.election.label == event.label
            assert (each.election.consensus, each.election.abstained) == (event.consensus, event.abstained)
            assert each.quality is not None
            assert each.quality.label_correct == event.label_correct
            assert each.quality.reward_accuracy == event.reward_accuracy
            assert [part.count for part in each.election.classes[:12]] == [part.count for part in event.classes]


def test_merged_answers_pool_their_votes_and_others_stay(past):
    folder, _ = past
    answers = load_problem_set("bundled:sums").answers
    before = again(folder, 1, answers)
    split = max(before, key=lambda each: each.election.num_classes)
    one, other = split.election.classes[:2]
    merged = answers.model_copy(
        update={"merges": (Merge(problem_id=split.problem.id, answers=(one.answer, other.answer)),)}
    )
    for was, now in zip(before, again(folder, 1, merged), strict=True):
        if was.problem.id == split.problem.id:
            assert now.election.classes[0].count == one.count + other.count
        else:
            assert now == was


def test_the_rows_of_one_problem_are_found_by_any_name(tmp_path: Path):
    names = ["a", 'quote"d', "ünï", "a b", "1"]
    path = rollout_path(tmp_path, 3)
    path.parent.mkdir()
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for name in names:
            file.write(json.dumps({"problem_id": name, "index": 0, "text": "t"}) + "\n")
    assert [[row["problem_id"] for row in read_rollouts(tmp_path, 3, name)] for name in names] == [[n] for n in names]
    assert len(read_rollouts(tmp_path, 3)) == len(names)
    assert read_rollouts(tmp_path, 4) == []


def test_a_rollout_that_was_called_off_votes_for_nothing():
    rows = [{"text": r"\boxed{1}", "finish": "stop"}, {"text": r"\boxed{2}", "finish": "dropped"}]
    election = hold_again(rows, get_task("number"), Problem("p", "?"), small_config().vote)
    assert (election.label, election.num_dropped, election.num_classes) == ("1", 1, 1)
