"""Queue, new run, compare and problem sets as functions of the store: no browser, no model."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from app.choices import Choices, set_ref
from app.config_form import form_fields, form_values
from app.evaluations import split_series
from app.flips import flips
from app.pages.compare_result import judge_of, result_html
from app.pages.compare_scores import View, parse_view, scores_part
from app.pages.new_run_review import Start, review, summary_html
from app.pages.problem_set_detail import problems_html
from app.pages.problem_sets import list_html
from app.pages.queue_view import queue_html
from app.services import Services
from app.speed import start_spans
from tests.app.scripted import HOSTILE, furnish
from ttrl_engine.config import PRESETS, RunConfig
from worker.settings import Settings

NAMES = [setting.name for setting in form_fields()]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return Services.open(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def ids(services: Services) -> dict[str, int]:
    return furnish(services.store)


def judged(services: Services, config: RunConfig, **values: object):
    choices = Choices(services)
    filled = dict(zip(NAMES, form_values(config, NAMES), strict=True)) | values
    return choices, review(choices, filled, Start("“Quick look”", config))


def test_the_queue_shows_what_runs_waits_and_ended(services: Services, ids: dict[str, int]):
    page = queue_html(services, time.time())
    for words in ("Second seed", "Step 37 of 120", "Waits its turn", "Ended lately", "No worker serves this queue"):
        assert words in page
    assert HOSTILE not in page
    assert "<script" not in page


def test_a_waiting_job_starts_after_the_running_one(services: Services, ids: dict[str, int]):
    store = services.store
    [span] = start_spans(store, store.active_jobs(), store.queue(), 1)
    assert span is not None
    assert 0 < span[0] <= span[1]
    assert start_spans(store, store.active_jobs(), store.queue(), 2) == [(0.0, 0.0)]


def test_the_default_form_can_start(services: Services, ids: dict[str, int]):
    choices, verdict = judged(services, PRESETS["quick-look"].config())
    assert verdict.button == "Start the run"
    assert verdict.plan is not None
    assert "Nothing is changed from “Quick look”" in summary_html(
        choices, verdict, Start("“Quick look”", PRESETS["quick-look"].config())
    )


@pytest.mark.parametrize(
    ("name", "value", "label"),
    [
        ("data.problems", "", "Choose a problem set to start"),
        ("data.problems", "/etc/passwd", "Choose a problem set to start"),
        ("model.source", "", "Choose a model to start"),
        ("model.source", "/etc", "This model cannot be used"),
        ("vote.num_votes", 1, "Fix “Votes per problem (N)” to start"),
        ("vote.max_new_tokens", 1024, "Fix “Longest answer (tokens)” to start"),
        ("data.benchmarks", ["/etc/passwd"], "Fix “Benchmarks” to start"),
    ],
)
def test_start_names_what_keeps_it(services: Services, ids: dict[str, int], name: str, value: object, label: str):
    _, verdict = judged(services, PRESETS["quick-look"].config(), **{name: value})
    assert not verdict.can_start
    assert verdict.button in (label, "Fix 2 settings to start")


def test_changes_show_as_chips(services: Services, ids: dict[str, int]):
    config = PRESETS["quick-look"].config()
    choices, verdict = judged(services, config, **{"vote.num_votes": 48})
    assert verdict.changed == ("vote.num_votes",)
    assert "Changed from “Quick look”" in summary_html(choices, verdict, Start("“Quick look”", config))


def test_every_stored_set_can_be_chosen_by_its_reference(services: Services, ids: dict[str, int]):
    choices = Choices(services)
    for found in choices.problem_sets():
        again = choices.find_set(set_ref(found))
        assert again is not None
        assert again.id == found.id


def test_flips_pair_the_base_with_the_newest(services: Services, ids: dict[str, int]):
    series = split_series(services.store.evaluations(ids["finished"]))[0]
    run = services.store.run(ids["finished"])
    assert run is not None
    found = flips(services.store, run.id, series, run.config.answers, run.set_id)
    assert len(found) == series.num_problems
    assert {flip.verdict for flip in found} <= {"to_right", "to_wrong", "both_right", "both_wrong"}
    assert found == flips(services.store, run.id, series, run.config.answers, run.set_id, series.newest.step)
    earlier = flips(services.store, run.id, series, run.config.answers, run.set_id, series.rows[1].step)
    assert [flip.base for flip in sorted(earlier, key=lambda flip: flip.problem_id)] == [
        flip.base for flip in sorted(found, key=lambda flip: flip.problem_id)
    ]
    assert sum(flip.change for flip in earlier) < sum(flip.change for flip in found)


def test_the_flips_are_counted_filtered_and_safe(services: Services, ids: dict[str, int]):
    run = services.store.run(ids["finished"])
    assert run is not None
    part = scores_part(Choices(services), run, View())
    assert "Flipped to right" in part.bar_html
    assert "<img" not in part.table_html
    assert "\\(\\frac{1}{2}" in part.table_html


@pytest.mark.parametrize(
    "text", ["", "x", "s0.all.1", "0.all.1.0", "s0.bad.1.0", "s0.all.-1.0", "s٣.all.1.0", "c1.all.1"]
)
def test_a_bad_view_is_the_first_view(text: str):
    assert parse_view(text) == View()


def test_a_comparison_says_who_is_right_and_stays_text(services: Services, ids: dict[str, int]):
    store, run_id = services.store, ids["finished"]
    run = store.run(run_id)
    assert run is not None
    known = store.problems_page(run.set_id, 5, 1)[0]
    compared = store.submit_comparison(run_id, known.prompt, "c1", problem_id=known.problem_id, num_samples=2)
    side = {"label": "1", "abstained": None, "consensus": 0.5, "classes": [{"answer": "1", "count": 1}]}
    answers = [
        {"text": HOSTILE, "answer": "1", "reason": None, "class_index": 0, "length": 3, "finish": "stop"},
        {"text": "…", "answer": None, "reason": HOSTILE, "class_index": None, "length": 9, "finish": "length"},
    ]
    right = {
        **side,
        "label": known.reference,
        "classes": [{"answer": known.reference, "count": 1}],
        "answers": [{**answers[0], "answer": known.reference}, answers[1]],
    }
    with store.writing(run_id) as connection:
        result = json.dumps({"base": {**side, "answers": answers}, "adapted": right})
        connection.execute("UPDATE comparisons SET result_json = ? WHERE id = ?", (result, compared))
    comparison = store.comparison(compared)
    assert comparison is not None
    page = result_html(store, run, comparison, judge_of(run, comparison, known, show=True))
    assert "The adapted model is right, the base is not." in page
    assert "<img" not in page
    hidden = result_html(store, run, comparison, judge_of(run, comparison, known, show=False))
    assert "The votes differ." in hidden
    assert f"Reference answer: <b>{known.reference}" not in hidden


def test_references_are_shown_only_when_asked_for(services: Services, ids: dict[str, int]):
    run = services.store.run(ids["finished"])
    assert run is not None
    rows = services.store.problems_page(run.set_id, 0, 3)
    assert "Reference answer" not in problems_html(rows, references=False)
    assert "Reference answer" in problems_html(rows, references=True)
    assert "<img" not in problems_html(rows, references=True)


def test_the_list_of_sets_marks_the_bundled_ones(services: Services, ids: dict[str, int]):
    page = list_html(Choices(services).problem_sets())
    assert "bundled" in page
    assert "never used for training" in page


def test_an_empty_store_says_what_to_do_next(tmp_path: Path):
    empty = Services.open(Settings(data_dir=tmp_path))
    assert "Start a run and it appears here" in queue_html(empty, time.time())
    assert "Upload a file or paste problems" in list_html([])
