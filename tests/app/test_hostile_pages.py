"""The hostile corpus in the store and in everything that turns text into HTML: no tag, no attribute, no break-out."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app import components as ui
from app.mathtext import answer_html, math_html
from app.pages.answer_fields import examples_html
from app.pages.compare_result import Judge, result_html
from app.pages.problem_set_detail import problems_html
from app.pages.problem_sets import list_html
from tests.app.scripted import Player, Script, problem_set
from tests.ttrl_engine.hostile import CORPUS
from ttrl_engine import events as ev
from ttrl_engine.config import AnswerConfig
from ttrl_engine.problems import Problem, ProblemSet
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.final_answer import show
from worker.recorder import Recorder
from worker.store import Store, open_store

# What the pages themselves draw with; anything else came out of somebody's text.
_TAGS = frozenset(
    re.findall(
        r"\w+",
        "a article b br button caption code dd details div dl dt em form h1 h2 h3 i input label li ol p path pre "
        "section small span strong summary svg table tbody td th thead tr ul use circle rect line polyline polygon g",
    )
)
_LAYOUT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or (name in ("srcdoc", "src", "style") and "evil" in (value or "")):
                self.faults.append(f"{name}={value}")
            if name == "href" and not (value or "").startswith(("/", "#")):
                self.faults.append(f"href={value}")


def faults_of(page: str) -> list[str]:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.faults


@pytest.mark.parametrize("draw", [math_html, answer_html, ui.escape, show], ids=lambda draw: draw.__name__)
def test_no_string_becomes_markup_and_none_takes_long(draw):
    for text in CORPUS:
        start = time.process_time()
        drawn = draw(text)
        assert faults_of(ui.escape(drawn) if draw is show else drawn) == [], ascii(text[:60])
        assert time.process_time() - start < 2.0, ascii(text[:60])


def test_the_components_escape_what_they_are_given():
    for text in CORPUS:
        short = text[:2000]
        parts = [
            ui.card("", short),
            ui.note(short, short),
            ui.pill(short),
            ui.chip(short, short),
            ui.tile(short, short, [short], help_text=short),
            ui.copyable(short, name=short[:50]),
            ui.facts([(short, short)]),
            ui.error_card(short, short, short, short),
            ui.issue_list([("error", short)]),
            ui.table([short], [ui.row([ui.escape(short)], key=short)], short),
            ui.bar(0.5, label=short),
            ui.page_head(short, short, document_title=short),
            ui.empty(short, short),
        ]
        assert faults_of("".join(parts)) == [], ascii(text[:60])


@pytest.mark.parametrize("kind", ["number", "choice", "text", "decision"])
def test_examples_of_a_set_escape_problems_references_and_keys(kind):
    for text in CORPUS:
        problem = Problem("p", text[:2000], (text[:200], "b"))
        assert faults_of(examples_html([problem], {"p": text[:900]}, AnswerConfig(kind=kind))) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "data")


def hostile_set() -> ProblemSet:
    """Every string as prompt, reference, option and id, cleaned as an upload is."""
    clean = [_LAYOUT.sub("", text)[:5000] or "x" for text in CORPUS]
    problems = tuple(Problem(f"{i} {text[:150]}", f"{i} {text}", (text[:200], "b")) for i, text in enumerate(clean))
    return ProblemSet(clean[200], "text", problems, {p.id: clean[i][:900] for i, p in enumerate(problems)})


def test_the_store_gives_back_what_it_was_given_and_the_lists_stay_text(store: Store):
    given = hostile_set()
    set_id = store.add_problem_set(given, source=f"upload:{CORPUS[0]}")
    assert store.load_problem_set(set_id) == given
    rows = store.problems_page(set_id, 0, 1000)
    assert faults_of(problems_html(rows, references=True)) == []
    assert faults_of(list_html(store.problem_sets())) == []
    for text in CORPUS:
        query = text[:200].encode("utf-8", "replace").decode()
        assert store.count_problems(set_id, query) <= len(rows)


def test_elections_of_the_corpus_are_recorded_as_they_were_shown(store: Store):
    player = Player(store, Script("hostile", problem_set("sums", references=True), steps=0, ends=None))
    claim = player.start()
    task = get_task("text")
    shown = [task.display(text) or "x" for text in CORPUS]
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for index, answer in enumerate(shown):
            classes = (ev.ClassCount(answer, 5, False), ev.ClassCount("7", 2, True))
            held = ev.ElectionHeld(1, f"p{index}", answer, None, 0.6, 0.3, 8, 2, 1, 0, classes, 0.6, False, 0.1, 0.2)
            recorder.emit(held)
            recorder.emit(ev.Noted(1, "warning", answer))
        recorder.emit(ev.StepFinished(1, 2, {"consensus": 0.5}, {"sampling": 0.1}))
    assert [row.message for row in store.notes(player.run_id)][-len(shown) :] == shown
    for index, answer in enumerate(shown):
        [election] = store.election_history(player.run_id, f"p{index}")
        assert (election.label, election.classes[0].answer) == (answer, answer)


def test_a_comparison_of_the_corpus_stays_text(store: Store):
    player = Player(store, Script("hostile", problem_set("sums", references=True), steps=0, ends=None))
    run = store.run(player.run_id)
    assert run is not None
    task = get_task("text")
    answers = [
        {
            "text": text[:3000],
            "answer": task.display(text),
            "reason": None,
            "class_index": 0,
            "length": 3,
            "finish": "stop",
        }
        for text in CORPUS
    ]
    side = {"label": answers[1]["answer"], "abstained": None, "consensus": 0.5, "answers": answers,
            "classes": [{"answer": each["answer"], "count": 1} for each in answers[:20]]}  # fmt: skip
    compared = store.submit_comparison(run.id, "x", "c1")
    with store.writing(run.id) as connection:
        result = json.dumps({"base": side, "adapted": side})
        connection.execute("UPDATE comparisons SET result_json = ? WHERE id = ?", (result, compared))
    comparison = store.comparison(compared)
    assert comparison is not None
    page = result_html(store, run, comparison, Judge(task, Problem("p", "x"), None))
    assert faults_of(page) == []
