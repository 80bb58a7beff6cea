"""Spot checks: what a person said, held against labels, and the tab that asks."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.pages.run_spot_check import Spot, act, drawn, give
from app.services import Services
from app.spot_checks import Checked, SpotCheck, Standing, Tally, of_references, spot_check, standing
from tests.app.scripted import HOSTILE, Player, Script, problem_set
from ttrl_engine.config import AnswerConfig
from worker.rows import LabelRow, ProblemRow, RunRow, SpotVerdictRow
from worker.settings import Settings

RULE = AnswerConfig(kind="number").model_dump_json()
PROBLEM = ProblemRow(0, "p", "How much?", None, ())
PARTS = ("state", "head", "message", "question", "text", "buttons", "result", "accuracy", "calibration", "tables")


def said(*verdicts: tuple[str, str | None]) -> list[SpotVerdictRow]:
    return [SpotVerdictRow(i, 1, "p", 3, kind, text, 0.0) for i, (kind, text) in enumerate(verdicts)]  # type: ignore[arg-type]  # spelled in the test


@pytest.mark.parametrize(
    ("verdicts", "label", "stands"),
    [
        ([], "7", Standing.PENDING),
        ([("skip", "7")], "7", Standing.SKIPPED),
        ([("answer", "7.0")], "7", Standing.RIGHT),
        ([("answer", "7")], "8", Standing.WRONG),
        ([("right", "7")], "7.00", Standing.RIGHT),
        ([("right", "7")], "8", Standing.WRONG),
        ([("wrong", "7")], "7", Standing.WRONG),
        ([("wrong", "7")], "8", Standing.OPEN),
        ([("wrong", "7"), ("right", "8")], "8", Standing.RIGHT),
        ([("wrong", "7"), ("wrong", "8")], "8", Standing.WRONG),
        ([("answer", "1"), ("answer", "7")], "7", Standing.RIGHT),
        ([("answer", "7")], None, Standing.WRONG),
        ([("wrong", None)], "7", Standing.OPEN),
    ],
)
def test_a_label_stands_as_the_verdicts_say(verdicts, label, stands):
    assert standing(RULE, PROBLEM, said(*verdicts), label) is stands


def test_open_labels_widen_the_interval_and_are_in_no_share():
    known, hazy = Tally(1, 12, 4, 0), Tally(1, 12, 4, 4)
    assert known.accuracy == hazy.accuracy == 0.75
    assert hazy.interval[0] < known.interval[0] < 0.75 < known.interval[1] < hazy.interval[1]
    assert Tally(1, 2, 2, 9).accuracy is None, "four judged labels are too few"


def test_the_interval_of_twenty_labels_holds_the_truth_as_often_as_it_says():
    intervals = [Tally(1, right, 20 - right, 0).interval for right in range(21)]
    held = []
    for share in (i / 100 for i in range(5, 96)):
        chances = [math.comb(20, k) * share**k * (1 - share) ** (20 - k) for k in range(21)]
        held.append(sum(c for c, (low, high) in zip(chances, intervals, strict=True) if low <= share <= high))
    assert 0.93 < sum(held) / len(held) < 0.97


def test_calibration_leaves_out_votes_without_label_or_reference():
    labels = [LabelRow(1, f"p{i}", "7", 0.9, True) for i in range(6)]
    labels += [LabelRow(1, "none", None, 0.5, False), LabelRow(1, "unknown", "7", 0.5, None)]
    found = of_references(labels)
    assert found is not None
    assert (found.num_labels, found.accuracy) == (6, 1.0)
    assert of_references(labels[:4]) is None


# --- the tab -------------------------------------------------------------------------------------------------------


@pytest.fixture
def services(tmp_path) -> Services:
    return Services.open(Settings(data_dir=tmp_path))


def played(services: Services, *, references: bool = False) -> RunRow:
    script = Script("Sums", problem_set("sums", references=references), total_steps=20, steps=20, seed=5, learns=0.4)
    run = services.store.run(Player(services.store, script).play())
    assert run is not None
    return run


def shown(services: Services, state: Spot) -> dict[str, Any]:
    return dict(zip(PARTS, drawn(services, state, message=""), strict=True))


def present(services: Services, run: RunRow) -> SpotCheck:
    found = spot_check(services.store, run)
    assert found is not None
    return found


def upcoming(services: Services, run: RunRow) -> Checked:
    found = present(services, run).next
    assert found is not None
    return found


def asking(services: Services, run: RunRow) -> Spot:
    """The state of a page on which a sample was just drawn."""
    after, message = act(services, Spot(run.id), "draw", str(run.id))
    assert message == ""
    state = shown(services, after)["state"]
    assert isinstance(state, Spot)
    return state


def test_the_question_comes_without_the_label(services):
    run = played(services)
    page = shown(services, asking(services, run))
    state = page["state"]
    label = services.store.label_history(run.id, [state.asked])[-1].label
    assert f">{label}<" not in str(page["buttons"])
    assert "Show the label" in page["buttons"]
    after, _ = act(services, state, "reveal", "0")
    assert (label or "elected no label") in shown(services, after)["buttons"]


def test_accuracy_appears_with_the_fifth_label_and_names_n_and_interval(services):
    run = played(services)
    state = asking(services, run)
    check = present(services, run).row
    newest = {each.problem_id: each.label for each in services.store.newest_labels(run.id)}
    for place, name in enumerate(check.problem_ids):
        assert shown(services, state)["state"].asked == name, "in the order of the draw"
        page = shown(services, state)
        assert ("95 %" in page["result"]) == (place >= 5)
        state, _, taken = give(services, state, (newest[name] or "5") if place % 4 else "123456")
        assert taken
        state = shown(services, state)["state"]
    page, found = shown(services, state), present(services, run)
    right = sum(newest[name] is not None for place, name in enumerate(check.problem_ids) if place % 4)
    assert (found.now.num_right, found.now.num_judged) == (right, 20)
    assert "n = 20 of 20 drawn" in page["result"]
    assert state.open is False, "the question is closed"
    [curve] = json.loads(page["accuracy"])["charts"]
    assert curve["series"][0]["points"][-1][0] == max(each.step for each in found.tallies)
    assert "spot check" in json.loads(page["calibration"])["charts"][0]["title"]


def test_a_skipped_problem_is_not_counted_and_the_page_says_so(services):
    run = played(services)
    state = asking(services, run)
    for _ in range(3):
        step = upcoming(services, run).newest.step
        state, _ = act(services, state, "skip", str(step))
        state = shown(services, state)["state"]
    for _ in range(5):
        state, _, _ = give(services, state, "1")
        state = shown(services, state)["state"]
    assert present(services, run).now.num_judged == 5
    assert "n = 5 of 20 drawn, 3 skipped" in shown(services, state)["result"]
    assert "3 skipped and not counted" in shown(services, state)["result"]


def test_undo_asks_the_last_problem_again(services):
    run = played(services)
    state = asking(services, run)
    first = state.asked
    state, _, _ = give(services, state, "1")
    state = shown(services, state)["state"]
    assert state.asked != first
    state, message = act(services, state, "undo", "1")
    assert "Taken back" in message
    assert shown(services, state)["state"].asked == first


def test_a_label_that_was_not_shown_cannot_be_judged(services):
    run = played(services)
    state = asking(services, run)
    for what, value in (("right", "1"), ("wrong", "9999"), ("wrong", "x"), ("nonsense", "1")):
        act(services, state, what, value)
    assert services.store.spot_verdicts(present(services, run).row.id) == []
    assert "out of date" in act(services, state, "right", "1")[1]


def test_a_rejected_label_is_asked_again_only_when_it_changes(services):
    run = played(services)
    state = asking(services, run)
    asked = upcoming(services, run)
    state, _ = act(services, state, "reveal", "")
    state, _ = act(services, state, "wrong", str(asked.newest.step))
    assert upcoming(services, run).problem.problem_id != asked.problem.problem_id
    with services.store.writing(run.id) as connection:
        connection.execute(
            "INSERT INTO elections (run_id, step, problem_id, label, consensus, margin, num_rollouts, num_classes,"
            " num_unparsed, num_truncated, classes_json) VALUES (?, 99, ?, 'another', 0.5, 0.1, 8, 2, 0, 0, '[]')",
            (run.id, asked.problem.problem_id),
        )
    found = present(services, run)
    assert upcoming(services, run).problem.problem_id == asked.problem.problem_id
    assert found.now.num_open == 1
    # The one on the page stays there: no refresh changes a question under a person's hands.
    kept = shown(services, Spot(run.id, asked=found.row.problem_ids[3]))
    assert kept["state"].asked == found.row.problem_ids[3]


def test_with_references_everywhere_nothing_is_drawn_and_the_calibration_is_shown(services):
    run = played(services, references=True)
    page = shown(services, Spot(run.id))
    assert "Nothing to check" in page["head"]
    assert "Nothing was kept" in act(services, Spot(run.id), "draw", "")[1]
    assert [each["id"] for each in json.loads(page["calibration"])["charts"]] == ["calibration-references"]


def test_a_second_tab_draws_no_second_sample(services):
    run = played(services)
    asking(services, run)
    asking(services, run)
    assert present(services, run).row.number == 1
    act(services, Spot(run.id), "redraw", "")
    assert present(services, run).row.number == 2


def test_what_a_problem_or_a_person_wrote_is_escaped(services):
    run = played(services)
    state = asking(services, run)
    for _ in range(20):
        state, message, _ = give(services, state, HOSTILE)
        page = shown(services, state)
        state = page["state"]
        for part in (message, page["head"], page["text"], page["buttons"], page["result"], page["tables"]):
            assert "<script" not in str(part)
            assert "<img" not in str(part)
