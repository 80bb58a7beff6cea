"""Compare and the blind comparison as functions of the store: no browser, no model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.blind import Share, session_of, tally
from app.choices import Choices
from app.components import Clicks, unless_clicked
from app.flips import compared_flips
from app.pages.blind_view import question_html, result_html, sentences, stage_html
from app.pages.compare import ComparePage
from app.pages.compare_pair import Pair, pair_parts, picked_pair
from app.pages.compare_result import judge_of
from app.pages.compare_result import result_html as comparison_html
from app.pages.compare_scores import View, parse_view, picked_view, scores_part, votes_sentence
from app.pages.compare_set import set_choices
from app.pages.queue_view import queue_html
from app.services import Services
from app.worddiff import marked
from tests.app.scripted import HOSTILE, Player, Script, problem_set
from ttrl_engine.config import Detach
from ttrl_engine.problems import Problem, ProblemSet
from worker.rows import RunRow
from worker.settings import Settings
from worker.settlement import Verdict
from worker.states import JobState
from worker.store import Store
from worker.store.comparisons import rule_of


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return Services.open(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def run(services: Services) -> RunRow:
    run_id = Player(services.store, Script("Sums", problem_set("sums", references=True), steps=4)).play()
    found = services.store.run(run_id)
    assert found is not None
    return found


def side(label: str | None, text: str, num_samples: int = 1) -> dict[str, Any]:
    answer = {"text": text, "answer": label, "reason": None, "class_index": 0, "length": 5, "finish": "stop"}
    classes = [{"answer": label, "count": num_samples}] if label else []
    base = {"label": label, "abstained": None if label else "tie", "consensus": 1.0 if label else 0.5}
    return {**base, "classes": classes, "answers": [answer] * num_samples}


def compared(
    store: Store, run: RunRow, client: str, labels: dict[str, tuple[str | None, str | None]], seed: int | None = None
) -> int:
    """A finished comparison over a set: problem id -> what base and adapted elected; with a seed one that is judged
    blindly."""
    names = list(labels)
    comparison_id = store.submit_set_comparison(run.id, run.set_id, names, client, num_samples=1, blind_seed=seed)
    claim = store.claim_next("w")
    assert claim is not None
    store.begin_comparison(claim)
    for place, name in enumerate(("base", "adapted")):
        texts = {problem: f"{name} says {pair[place]}" for problem, pair in labels.items()}
        rows = [(name, problem, side(pair[place], texts[problem])) for problem, pair in labels.items()]
        store.record_sides(claim, comparison_id, run.id, rows)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.FINISHED, "Done."))
    return comparison_id


# p000 is 18, p003 is 27, p004 is 30, p006 is 41.
LABELS = {"p000": ("1", "18.0"), "p003": ("27", "27"), "p004": ("30", "7"), "p006": ("5", "5.0"), "p007": ("1", None)}


@pytest.fixture(scope="module")
def comparison_id(services: Services, run: RunRow) -> int:
    return compared(services.store, run, "compared", dict(LABELS))


def test_answers_are_judged_by_value_and_by_the_reference(services: Services, run: RunRow, comparison_id: int):
    comparison = services.store.comparison(comparison_id)
    assert comparison is not None
    own = services.store.problem_set(run.set_id)
    assert own is not None
    found = {flip.problem_id: flip for flip in compared_flips(services.store, comparison, own.answers)}
    assert {name: (flip.verdict, flip.same) for name, flip in found.items()} == {
        "p000": ("to_right", False),
        "p003": ("both_right", True),
        "p004": ("to_wrong", False),
        "p006": ("both_wrong", True),
        "p007": ("both_wrong", False),
    }
    assert [flip.same for flip in found.values()] == [False, False, False, True, True], "different answers first"
    assert found["p000"].passes("to_right")
    assert found["p000"].passes("different")
    assert not found["p000"].passes("same")
    assert found["p000"].holds("18.0")
    assert found["p000"].holds("COMPUTE 11")
    assert not found["p000"].holds("no such text")


def test_the_votes_in_words_name_test_interval_and_n(services: Services, run: RunRow, comparison_id: int):
    comparison = services.store.comparison(comparison_id)
    own = services.store.problem_set(run.set_id)
    assert comparison is not None
    assert own is not None
    found = compared_flips(services.store, comparison, own.answers)
    words = votes_sentence(found)
    assert "<b>1</b> flipped to right and <b>1</b> to wrong" in words
    assert "not established" in words
    assert "n = 5 problems, exact McNemar p = 1.00" in words
    assert "<b>2 of 5</b>" in words
    won = next(flip for flip in found if flip.verdict == "to_right")
    assert "not established" not in votes_sentence([replace(won, problem_id=str(i)) for i in range(12)])
    unknown = [replace(flip, base=replace(flip.base, right=None)) for flip in found]
    assert "who is right is not known" in votes_sentence(unknown)


def test_a_comparison_over_a_set_is_a_source_of_the_table(services: Services, run: RunRow, comparison_id: int):
    choices = Choices(services)
    part = scores_part(choices, run, View(compared=comparison_id))
    assert "Asked: sums, 5" in part.bar_html
    assert part.table_html.count("<tr><td>") == 5
    assert f"id={comparison_id}&amp;problem=p000" in part.table_html
    same = scores_part(choices, run, View(compared=comparison_id, wanted="same"))
    assert same.table_html.count("<tr><td>") == 2
    searched = scores_part(choices, run, View(compared=comparison_id, query="p004"))
    assert searched.table_html.count("<tr><td>") == 1
    nothing = scores_part(choices, run, View(compared=comparison_id, query=HOSTILE))
    assert "<img" not in nothing.bar_html
    assert nothing.table_html == ""
    # One that is not of this run, or not there, is no source.
    assert "Asked: sums, 5" in scores_part(choices, run, View(compared=999)).bar_html


def test_a_view_survives_its_address_and_clicks_change_one_thing():
    view = View(2, None, "both_wrong", 3, 24, "a:b~c")
    assert parse_view(view.text, view.query) == view
    assert parse_view(View(compared=7, wanted="same").text) == View(compared=7, wanted="same")
    assert picked_view(f"view:{view.text}:{view.query}") == view
    assert picked_view(f"find.{view.text}:x: y") == replace(view, query="x: y", page=1)
    assert picked_view(f"step.{view.text}~{view.query}:12") == replace(view, step=12, page=1)
    assert picked_view("step.nonsense:٣") == View()


def test_words_that_differ_are_marked_and_all_is_escaped():
    one, other = marked("So 2 <b> + 3 = 5, the answer is 5.", "So 2 <b> + 3 = 6, the answer is 6.", ("5", "6"))
    assert "<b>" not in one
    assert "&lt;b&gt;" in one
    assert '<del>5</del>, the answer is <del><b class="final">5</b></del>.' in one
    assert '<ins>6</ins>, the answer is <ins><b class="final">6</b></ins>.' in other
    assert marked("a  b", "a  b") == ("a  b", "a  b")
    # A number is not found inside a longer one.
    assert "final" not in marked("155 and 5.5", "x", ("5", None))[0]
    html = "".join(marked(HOSTILE, HOSTILE[::-1], (HOSTILE, HOSTILE)))
    assert "<img" not in html
    assert "<script" not in html


def test_long_texts_are_shown_without_marks_in_no_time():
    one, other = marked("a b " * 5000, "b a " * 5000)
    assert (one, other) == ("a b " * 5000, "b a " * 5000)


def test_a_pair_is_read_word_by_word_or_with_formulas():
    sides = {"base": side("5", r"Half is $\frac{1}{2}$. " + HOSTILE, 3), "adapted": side("6", "Six.", 3)}
    html, math = pair_parts(sides, Pair())
    assert "<del>" in html
    assert "Answer 1 of 3" in html
    assert math == ""
    html, math = pair_parts(sides, Pair(9, "formulas"))
    assert "Answer 3 of 3" in html
    assert "\\(\\frac{1}{2}\\)" in math
    assert "<img" not in html + math
    assert pair_parts(None, Pair()) == ("", "")
    assert picked_pair("pair:2:formulas") == Pair(2, "formulas")
    assert picked_pair("pair:x:formulas") is None


def test_what_grows_is_shown_as_text_with_the_button_that_stops_it(services: Services, run: RunRow):
    store = services.store
    asked = store.submit_comparison(run.id, "1 + 1?", "growing", num_samples=2)
    claim = store.claim_next("w")
    assert claim is not None
    store.begin_comparison(claim)
    growing = {"growing": [{"text": HOSTILE, "length": 7, "ended": False}, {"text": "2", "length": 1, "ended": True}]}
    store.record_comparison(claim, run.id, 1, 4, partial_json=json.dumps({"base": growing}))
    comparison = store.comparison(asked)
    assert comparison is not None
    judge = judge_of(run, comparison, None, show=True)
    page = comparison_html(store, run, comparison, judge)
    assert "1 of 4 answers" in page
    assert f'data-pick="cancel:{comparison.job.id}"' in page
    assert "its turn comes when the base has answered" in page
    assert "<img" not in page
    store.record_comparison(claim, run.id, partial_json=json.dumps({"base": side("2", "two"), "adapted": growing}))
    store.request_cancel(comparison.job.id)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.STOPPED, "Cancelled."))
    comparison = store.comparison(asked)
    assert comparison is not None
    page = comparison_html(store, run, comparison, judge)
    assert "This comparison was cancelled." in page
    assert "The vote says" in page, "the side that was finished stays with its vote"
    assert "writing" not in page


def test_a_blind_session_shows_no_name_before_its_end(services: Services, run: RunRow):
    store = services.store
    names = [f"p{i:03d}" for i in range(3, 23)]
    compared_id = compared(store, run, "blind", dict.fromkeys(names, ("1", "2")), seed=3)
    with store.writing() as connection:
        # The texts name their model, which a real one does not; and one pair is the same twice.
        connection.execute(
            "UPDATE comparison_answers SET side_json = replace(replace(side_json, 'base says', 'It is'),"
            " 'adapted says', 'It is') WHERE comparison_id = ?",
            (compared_id,),
        )
        connection.execute(
            "UPDATE comparison_answers SET side_json = replace(side_json, 'It is 2', 'It is 1')"
            " WHERE comparison_id = ? AND problem_id = 'p005'",
            (compared_id,),
        )
    row = store.blind_session_of(compared_id)
    assert row is not None
    session_id = row.id
    session = session_of(store, session_id)
    assert session is not None
    assert session == session_of(store, session_id), "the order is drawn once"
    assert (len(session.items), session.num_same) == (19, 1)
    assert [item.problem.problem_id for item in session.items] != sorted(names)
    assert {item.left for item in session.items} == {"base", "adapted"}
    for item in session.items:
        page = question_html(item) + stage_html(session)
        assert "adapted" not in page.casefold()
        assert "base" not in page.casefold()
    for item in session.items[:-1]:
        store.say_blind_vote(session.row, item.problem.problem_id, "left" if item.left == "adapted" else "right")
    session = session_of(store, session_id)
    assert session is not None
    assert session.next == (19, session.items[-1])
    assert result_html(run, session) == ""
    store.end_blind_session(session.row)
    session = session_of(store, session_id)
    assert session is not None
    counts = tally(session.items, session.votes)
    assert counts.adapted == Share(18, 18)
    assert counts.left.total == 18
    assert "The adapted answer is preferred" in result_html(run, session)
    assert session.next is None


def test_a_few_votes_establish_nothing_and_a_habit_of_the_side_is_named(services: Services, run: RunRow):
    assert not Share(4, 5).established
    assert not Share(0, 0).established
    assert Share(15, 16).established
    labels: dict[str, tuple[str | None, str | None]] = {f"p{i:03d}": ("1", "2") for i in range(3, 43)}
    row = services.store.blind_session_of(compared(services.store, run, "sides", labels, seed=1))
    assert row is not None
    session = session_of(services.store, row.id)
    assert session is not None
    for item in session.items:
        services.store.say_blind_vote(session.row, item.problem.problem_id, "left")
    session = session_of(services.store, session.row.id)
    assert session is not None
    counts = tally(session.items, session.votes)
    assert counts.left == Share(40, 40)
    words = " ".join(sentences(counts))
    assert "Not established which is better" in words
    assert "hints at a habit of the side" in words
    assert "nothing can be said" in sentences(tally(session.items, {}))[0]


# --- the page ------------------------------------------------------------------------------------------------------

TOKEN, RESULT, EARLIER, BAR, TABLE = 0, 2, 5, 6, 7


@pytest.fixture(scope="module")
def page(services: Services) -> ComparePage:
    with gr.Blocks():
        return ComparePage(services)


def opened(page: ComparePage, **query: object) -> list[Any]:
    params = {name: str(value) for name, value in query.items()}
    return page.opened(SimpleNamespace(query_params=params))  # type: ignore[arg-type]  # all that it reads of a request


def skipped(value: Any) -> bool:
    return bool(value == gr.skip())


def test_one_problem_of_a_set_is_read_with_its_reference_answer(page: ComparePage, comparison_id: int):
    values = opened(page, id=comparison_id, problem="p000")
    text = "".join(str(value) for value in values)
    assert "Reference answer" in text
    assert "The adapted model is right, the base is not." in text
    assert "Reference answer" not in page.result_of(comparison_id, "p000", references=False)


def test_the_end_of_a_comparison_over_a_set_is_drawn_however_late_it_is_seen(page: ComparePage, run: RunRow):
    store = page.store
    asked = store.submit_set_comparison(run.id, run.set_id, ["p000"], "late", num_samples=1)
    claim = store.claim_next("w")
    assert claim is not None
    store.begin_comparison(claim)
    view = View(compared=asked)
    first = page.refreshed("", run.id, None, "", True, Pair(), view)
    assert "Running" in first[BAR]
    assert all(skipped(value) for value in page.refreshed(first[TOKEN], run.id, None, "", True, Pair(), view))
    store.record_comparison(claim, run.id, 1, 2)
    more = page.refreshed(first[TOKEN], run.id, None, "", True, Pair(), view)
    assert "1 of 2 answers" in more[BAR]
    assert skipped(more[EARLIER]), "no question began or ended"
    store.let_go(claim, lambda _job, _step: Verdict(JobState.FINISHED, "Done."))
    with store.writing() as connection:
        connection.execute("UPDATE jobs SET finished_at = finished_at - 3600 WHERE id = ?", (claim.job_id,))
    last = page.refreshed(more[TOKEN], run.id, None, "", True, Pair(), view)
    assert "Stop" not in last[BAR]
    assert not skipped(last[EARLIER])
    with store.writing(run.id):
        pass
    again = page.refreshed(last[TOKEN], run.id, None, "", True, Pair(), view)
    assert again[TOKEN] != last[TOKEN]
    assert skipped(again[BAR]), "what has ended keeps the place in it"


def test_without_scores_the_page_follows_the_comparison_that_it_shows(services: Services):
    store = services.store
    run_id = Player(store, Script("Bare", problem_set("bare", references=False), steps=1)).play()
    with store.writing(run_id) as connection:
        connection.execute("DELETE FROM evaluations WHERE run_id = ?", (run_id,))
    bare = store.run(run_id)
    assert bare is not None
    asked = store.submit_set_comparison(run_id, bare.set_id, ["p000"], "bare")
    assert scores_part(Choices(services), bare, View()).compared == asked
    found = store.comparison(asked)
    assert found is not None
    store.request_cancel(found.job.id)


def test_a_refresh_that_a_click_overtook_is_dropped():
    clicks = Clicks()

    def overtaken() -> list[Any]:
        with clicks.acting():
            return ["old"]

    assert unless_clicked(clicks, lambda: ["new"]) == ["new"]
    assert [skipped(value) for value in unless_clicked(clicks, overtaken)] == [True]
    with clicks.acting():
        num = clicks.num
    assert clicks.num > num, "a refresh that began within the click is dropped too"


def test_a_comparison_that_is_judged_blindly_leads_to_its_session(page: ComparePage, run: RunRow):
    asked = page.store.submit_set_comparison(run.id, run.set_id, ["p000"], "hidden", blind_seed=1)
    session = page.store.blind_session_of(asked)
    assert session is not None
    href = f'href="/blind?session={session.id}"'
    assert href in queue_html(page.services, 0.0)
    head = opened(page, id=asked)[0]
    assert "These answers are judged blindly." in head
    assert href in head
    assert scores_part(page.choices, run, View(compared=asked)).compared is None
    page.store.end_blind_session(session)
    assert "judged blindly" not in opened(page, id=asked)[0]
    assert href not in queue_html(page.services, 0.0)
    found = page.store.comparison(asked)
    assert found is not None
    page.store.request_cancel(found.job.id)


def test_another_set_is_asked_only_with_answers_that_the_rule_reads(
    services: Services, run: RunRow, comparison_id: int
):
    store = services.store
    problems = tuple(Problem(f"p{i:03d}", f"Who is {i}?") for i in range(3))
    text = store.add_problem_set(ProblemSet("names", "text", problems, {}), "names.csv")
    offered = [set_id for _, set_id in set_choices(Choices(services), run)]
    assert offered[0] == run.set_id
    assert text not in offered
    detached = (Detach(problem_id="p000", answer="18"),)
    answers = run.config.answers.model_copy(update={"detached": detached})
    config = run.config.model_copy(update={"answers": answers})
    ruled = replace(run, config_json=config.model_dump_json())
    own = store.comparison(comparison_id)
    assert own is not None
    assert rule_of(ruled, own).detached == detached
    assert rule_of(ruled, replace(own, set_id=text)).detached == ()
