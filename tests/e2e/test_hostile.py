"""A run, a set, a comparison and a draft made of the hostile corpus: pages show it, none runs, adds or fetches it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from app.drafts import DraftShelf
from tests.app.conftest import serving
from tests.app.scripted import Player, Script
from tests.app.test_hostile_pages import hostile_set
from tests.ttrl_engine.hostile import CORPUS
from ttrl_engine import events as ev
from ttrl_engine.tasks import get_task
from worker.recorder import Recorder
from worker.store import Store, open_store

pytestmark = pytest.mark.e2e

_TASK = get_task("text")
# Attributes that carry code, elements that only an injection makes, and addresses outside this page.
_INJECTED = """() => [
  ...document.querySelectorAll('iframe, object, embed, base:not([href="./"])'),
  ...document.querySelectorAll('form[action^="javascript"], [srcdoc], video, math mi[href]'),
  ...[...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) =>
    /^on(error|load|focus|mouseover|toggle|click)/.test(a.name) && a.value.includes('pwned')
    || (a.name === 'href' || a.name === 'src') && /^(javascript|data:text)|evil\\.invalid/i.test(a.value))),
].map((e) => e.outerHTML.slice(0, 200))"""


def play(store: Store) -> int:
    """One finished step whose problems, answers, notes and rollouts are the corpus; returns the run's id."""
    given = hostile_set()
    player = Player(store, Script(CORPUS[100][:100], given, steps=0, ends=None))
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        counts = (len(player.parts.adapt), len(player.parts.held_out))
        recorder.emit(ev.RunStarted(CORPUS[150], 1, 1, CORPUS[151], CORPUS[152], 2, *counts, 1, 9))
        shown = [_TASK.display(text) or "x" for text in CORPUS]
        elections = [
            ev.ElectionHeld(
                1, problem.id, shown[i], None, 0.6, 0.3, 8, 2, 1, 0,
                (ev.ClassCount(shown[i], 5, False), ev.ClassCount(shown[-i - 1], 2, True)), 0.6, False, 0.1, 0.2,
            )
            for i, problem in enumerate(player.parts.adapt[: len(CORPUS)])
        ]  # fmt: skip
        for election in elections:
            recorder.emit(election)
        write_rollouts(player.folder, elections)
        recorder.emit(ev.StepFinished(1, 9, {"consensus": 0.6, "margin": 0.3}, {"sampling": 1.0}))
        for text in shown[::6]:
            recorder.emit(ev.Noted(1, "warning", text))
        recorder.emit(ev.AlarmRaised(1, "one_answer", shown[110], 0.6, 0.5, "note"))
    for text in CORPUS[::3]:
        player.log(text[:300].encode("utf-8", "replace").decode())
    store.beat(claim)
    return player.run_id


def write_rollouts(folder: Path, elections: list[ev.ElectionHeld]) -> None:
    """Rollouts whose texts are the corpus."""
    (folder / "rollouts").mkdir(exist_ok=True)
    with gzip.open(folder / "rollouts" / "step-000001.jsonl.gz", "wt", encoding="utf-8") as out:
        for place, election in enumerate(elections):
            for index in range(8):
                text = CORPUS[(8 * place + index) % len(CORPUS)][:5000]
                row = {"problem_id": election.problem_id, "index": index, "text": f"{text} \\boxed{{{text[:150]}}}",
                       "class_index": 0 if index < 5 else 1, "reward": 0.0, "trained": True, "length": 9,
                       "finish": "stop", "logprob": -1.0}  # fmt: skip
                out.write(json.dumps(row) + "\n")


def compare(store: Store, run_id: int) -> int:
    """A comparison whose answers are the corpus."""
    answers = [
        {"text": text[:2000].encode("utf-8", "replace").decode(), "answer": _TASK.display(text) or "x", "reason": None,
         "class_index": 0, "length": 3, "finish": "stop"}
        for text in CORPUS
    ]  # fmt: skip
    side = {"label": answers[101]["answer"], "abstained": None, "consensus": 0.5, "answers": answers,
            "classes": [{"answer": each["answer"], "count": 1} for each in answers[100:130]]}  # fmt: skip
    compared = store.submit_comparison(run_id, CORPUS[100], "hostile")
    with store.writing(run_id) as connection:
        result = json.dumps({"base": side, "adapted": side})
        connection.execute("UPDATE comparisons SET result_json = ? WHERE id = ?", (result, compared))
    return compared


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A served Studio and the pages that show the corpus."""
    store = open_store(tmp_path)
    run_id = play(store)
    run = store.run(run_id)
    assert run is not None
    first = store.problems_page(run.set_id, 0, 1)[0].problem_id
    compared = compare(store, run_id)
    rows = "\n".join(json.dumps({"problem": text[:900], "answer": text[:90], "<b>id</b>": str(i)})
                     for i, text in enumerate(CORPUS))  # fmt: skip
    token = DraftShelf(tmp_path / "uploads", 10**8).add(rows.encode(), CORPUS[100] + ".jsonl")
    pages = [
        "/", "/runs", "/queue", f"/run?id={run_id}", f"/run?id={run_id}&problem={first}", "/problem-sets",
        *(f"/problem-sets?id={run.set_id}&references=1&page={page}" for page in (1, 4, 5, 6)),
        f"/problem-sets?draft={token}", f"/new?set={run.set_id}", f"/new?clone={run_id}",
        f"/compare?run={run_id}&id={compared}",
    ]  # fmt: skip
    with serving(tmp_path) as url:
        yield url, pages


@pytest.mark.timeout(300)
def test_no_page_runs_injects_or_fetches_what_it_shows(page: Page, addresses: tuple[str, list[str]]):
    url, pages = addresses
    outside: list[str] = []
    dialogs: list[str] = []

    def look(request: Any) -> None:
        if not request.url.startswith((url, url.replace("http", "ws"), "data:", "blob:")):
            outside.append(request.url)

    page.on("request", look)

    def refuse(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    for address in pages:
        page.goto(url + address)
        page.locator(".tt-page-head").first.wait_for()
        page.wait_for_timeout(700)  # what is drawn late, such as formulas, is drawn by now
        for closed in page.locator("details:not([open]) > summary").all()[:5]:
            if closed.is_visible():
                closed.click()
        assert page.evaluate("window.pwned") is None, address
        assert page.evaluate(_INJECTED) == [], address
        assert page.url.startswith(url), address
    assert (outside, dialogs) == ([], [])
