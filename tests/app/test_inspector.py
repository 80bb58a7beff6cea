"""The inspector without a browser: hostile rollouts, changed rules, and what is kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from app.pages.inspector import Inspect, Shown, act, look, token
from app.pages.inspector_view import inspector_html
from app.services import Services
from tests.app.scripted import HOSTILE
from ttrl_engine.config import RunConfig
from ttrl_engine.problems import Problem, ProblemSet
from worker.rows import ElectionRow
from worker.settings import Settings

NAMES = ("p1", "p2")
ANSWERS: dict[str, list[str | None]] = {
    "p1": ["Paris", "Paris", "paris", "the city of Paris", "Rome", "Rome", HOSTILE, None],
    "p2": ["yes", "no", "no", "no", "yes", "yes", "yes", "no"],
}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services.open(Settings(data_dir=tmp_path))


@pytest.fixture
def run_id(services: Services) -> int:
    """A run of one step whose rollouts are on disk."""
    problems = ProblemSet("cities", "text", tuple(Problem(name, "Which?") for name in NAMES), {"p1": "Paris"})
    set_id = services.store.add_problem_set(problems, source="test")
    run_id = services.store.submit_run(RunConfig(name="past"), "client", set_id)
    folder = services.store.run_folder(run_id) / "rollouts"
    folder.mkdir(parents=True)
    with gzip.open(folder / "step-000001.jsonl.gz", "wt", encoding="utf-8") as file:
        for name in NAMES:
            for index, answer in enumerate(ANSWERS[name]):
                text = f"{HOSTILE}\n" + (f"\\boxed{{{answer}}}" if answer else "I do not know.")
                row = {"problem_id": name, "index": index, "text": text, "finish": "stop", "length": 9, "reward": 0.0}
                file.write(json.dumps(row) + "\n")
    return run_id


def shown(services: Services, run_id: int, inspect: Inspect, problem: str = "p1") -> Shown:
    run = services.store.run(run_id)
    assert run is not None
    history = [
        ElectionRow(1, name, "Paris", None, 3 / 8, 1 / 8, 8, 4, 1, 0, (), 0.0, None, None, None) for name in NAMES
    ]
    return look(services, run, problem, 1, history[:1], inspect)


def after(services: Services, run_id: int, inspect: Inspect, *clicks: tuple[str, str]) -> Inspect:
    for what, value in clicks:
        inspect = act(services, shown(services, run_id, inspect), inspect, what, value)
    return inspect


def tokens(*spellings: str) -> str:
    return ",".join(token(each) for each in spellings)


def test_hostile_rollouts_are_shown_as_text(services: Services, run_id: int):
    inspect = Inspect(problem="p1")
    for group in (f"c{token('Paris')}", *(f"c{token(s[0])}" for s in shown(services, run_id, inspect).spellings())):
        page = inspector_html(
            shown(services, run_id, inspect), after(services, run_id, inspect, ("reading", f"{group}:0"))
        )
        assert HOSTILE not in page
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page


def test_what_could_not_be_read_has_its_reason_and_can_be_read(services: Services, run_id: int):
    first = shown(services, run_id, Inspect("p1"))
    assert first.now is not None
    [(index, reason)] = [each for each in first.now.election.unparsed if each[0] == 7]
    assert index == 7
    inspect = after(services, run_id, Inspect("p1"), ("reading", f"u{token(reason)}:0"))
    page = inspector_html(shown(services, run_id, inspect), inspect)
    assert "I do not know." in page
    assert f"Not read: {reason}" in page


def test_a_merge_is_voted_on_at_once_undone_and_saved(services: Services, run_id: int):
    merged = after(services, run_id, Inspect("p1"), ("merge", tokens("Rome", "the city of Paris")))
    view = shown(services, run_id, merged)
    assert view.held is not None
    assert view.now is not None
    assert view.now.election.classes[0].count == view.held.election.classes[0].count == 3
    assert {view.held.election.abstained, view.now.election.abstained} == {None, "tie"}
    assert "<b>1 of 2</b> problems at step 1 would change its label (p1)" in inspector_html(view, merged)
    undone = after(services, run_id, merged, ("undo", ""))
    assert undone.draft is None
    assert "under your rule" not in inspector_html(shown(services, run_id, undone), undone)
    saved = after(services, run_id, merged, ("save", ""))
    assert "Saved for the problem set" in saved.message
    run = services.store.run(run_id)
    assert run is not None
    assert run.config.answers.merges == ()
    kept = services.store.problem_set(run.set_id)
    assert kept is not None
    assert set(kept.rule.merges[0].answers) == {"Rome", "the city of Paris"}
    assert kept.rule.kind is None, "what the set says itself is not said again"
    reopened = inspector_html(shown(services, run_id, Inspect("p1")), Inspect("p1"))
    assert "a rule of its own since this run began" in reopened


def test_another_kind_reads_the_rollouts_anew(services: Services, run_id: int):
    inspect = after(services, run_id, Inspect("p1"), ("kind", "number"))
    view = shown(services, run_id, inspect)
    assert view.now is not None
    assert view.now.election.num_unparsed == 8
    back = after(services, run_id, inspect, ("discard", ""), ("undo", ""))
    assert back.draft == inspect.draft


def test_a_setting_that_cannot_be_is_refused_in_words(services: Services, run_id: int):
    refused = after(services, run_id, Inspect("p1"), ("kind", "number"), ("tolerance", "much"))
    assert "Nothing was changed" in refused.message
    incomplete = after(services, run_id, Inspect("p1"), ("kind", "pattern"))
    view = shown(services, run_id, incomplete)
    assert "needs a pattern" in inspector_html(view, incomplete)
    complete = after(services, run_id, incomplete, ("pattern", r"boxed\{(\w+)\}"))
    found = shown(services, run_id, complete)
    assert found.failure == ""
    assert found.now is not None


@pytest.mark.parametrize(
    ("what", "value"),
    [("chosen", "zzz"), ("class", "zzz"), ("merge", ""), ("split", "zzz"), ("reading", "zzz:99999999"), ("undo", ""),
     ("save", ""), ("kind", "<script>"), ("evil", "x"), ("reading", "c:-1")],
)  # fmt: skip
def test_no_click_of_a_made_up_browser_breaks_the_page(services: Services, run_id: int, what: str, value: str):
    inspect = after(services, run_id, Inspect("p1"), (what, value))
    assert inspect.draft is None
    page = inspector_html(shown(services, run_id, inspect), inspect)
    assert "The vote at step 1" in page
    assert "<script" not in page


def test_ticks_belong_to_their_problem(services: Services, run_id: int):
    ticked = after(services, run_id, Inspect("p1"), ("chosen", tokens("Rome")))
    assert ticked.chosen == {"Rome"}
    assert after(services, run_id, ticked, ("class", token("Rome"))).chosen == frozenset()
    assert ticked.at("p2").chosen == frozenset()


def test_without_rollouts_the_recorded_vote_is_shown(services: Services, run_id: int):
    for file in (services.store.run_folder(run_id) / "rollouts").iterdir():
        file.unlink()
    page = inspector_html(shown(services, run_id, Inspect("p1")), Inspect("p1"))
    assert "no longer on disk" in page
