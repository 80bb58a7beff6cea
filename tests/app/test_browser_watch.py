"""Watching in a real browser: notifications of a run, the scrubber over its votes, the ledger on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.app.conftest import serving
from tests.app.scripted import Player, Script, problem_set
from ttrl_engine import events as ev
from worker.recorder import Recorder
from worker.states import JobState
from worker.store import Store, open_store
from worker.store.holding import Claim

pytestmark = pytest.mark.e2e

# The real constructor runs, and what it was given is kept.
RECORD = """
window.told = [];
window.Notification = new Proxy(window.Notification, {
  construct(real, args) { window.told.push([args[0], args[1].body]); return Reflect.construct(real, args); },
});
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    folder = tmp_path_factory.mktemp("watched")
    store = open_store(folder)
    with serving(folder) as url:
        yield url, store


def under_way(store: Store, name: str, ends: JobState) -> tuple[Player, Claim]:
    player = Player(store, Script(name, problem_set("sums", references=True), total_steps=9, steps=2, ends=ends))
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for step in (1, 2):
            player.step(recorder, step)
    return player, claim


def watching(context: BrowserContext, url: str, run_id: int, tabs: int) -> list[Page]:
    """So many tabs on the run, notifications switched on by a click in the first."""
    context.grant_permissions(["notifications"], origin=url)
    context.add_init_script(RECORD)
    pages = [context.new_page() for _ in range(tabs)]
    for page in pages:
        page.goto(f"{url}/run?id={run_id}")
        expect(page.locator("[data-watch-run]")).to_be_attached()
    pages[0].get_by_role("tab", name="Share").click()
    pages[0].get_by_role("button", name="Tell me in this browser").click()
    expect(pages[0].get_by_text("Switched on in this browser.")).to_be_visible()
    pages[0].wait_for_timeout(2500)
    return pages


def told(pages: list[Page], happened: Callable[[Page], bool]) -> list[list[str]]:
    """What all tabs told, once each of them has seen what happened."""
    for page in pages:
        for _ in range(100):
            if happened(page):
                break
            page.wait_for_timeout(100)
    pages[0].wait_for_timeout(2500)
    return [each for page in pages for each in page.evaluate("window.told")]


def marked(name: str, value: str) -> Callable[[Page], bool]:
    return lambda page: bool(re.fullmatch(value, page.locator("[data-watch-run]").get_attribute(f"data-{name}") or ""))


def test_alarm_stall_and_end_are_told_once_in_all_tabs_together(context: BrowserContext, site: tuple[str, Store]):
    url, store = site
    player, claim = under_way(store, "Watched", JobState.FINISHED)
    pages = watching(context, url, player.run_id, tabs=2)
    with Recorder(store, claim, player.run_id) as recorder:
        recorder.emit(ev.AlarmRaised(2, "one_answer", "61 % elect the same answer.", 0.61, 0.5, "note"))
    alarm = ["Watched: alarm", "61 % elect the same answer."]
    assert told(pages, marked("alarms", "1")) == [alarm]
    pages[1].reload()
    expect(pages[1].locator("[data-watch-run]")).to_be_attached()
    pages[1].wait_for_timeout(2500)
    assert pages[1].evaluate("window.told") == []
    with store.writing(player.run_id) as connection:
        connection.execute("UPDATE runs SET last_event_at = last_event_at - 5000 WHERE id = ?", (player.run_id,))
    titles = [title for title, _ in told(pages, marked("stalled", r"[1-9]\d+"))]
    assert titles.count("Watched has gone silent") == 1
    player.end(claim)
    titles = [title for title, _ in told(pages, marked("state", "finished"))]
    assert titles.count("Watched is finished") == 1
    assert len(titles) <= 3


def test_a_failure_is_told_and_nothing_is_told_without_being_asked(context: BrowserContext, site: tuple[str, Store]):
    url, store = site
    player, claim = under_way(store, "Breaks", JobState.FAILED)
    [page] = watching(context, url, player.run_id, tabs=1)
    player.end(claim)
    assert told([page], marked("state", "failed")) == [["Breaks has failed", ""]]
    quiet, claim = under_way(store, "Quiet", JobState.FINISHED)
    page.goto(f"{url}/run?id={quiet.run_id}")
    page.get_by_role("tab", name="Share").click()
    page.get_by_role("button", name="Do not tell me any more").click()
    page.wait_for_timeout(2500)
    quiet.end(claim)
    assert told([page], marked("state", "finished")) == []


def test_the_scrubber_goes_over_the_votes_by_keyboard_and_no_answer_takes_it_back(page: Page, studio):
    run_id = studio.runs["running"]
    history = studio.store.election_history(run_id, "p005")
    assert len(history) >= 4
    page.goto(f"{studio.url}/run?id={run_id}&problem=p005")
    slider = page.get_by_role("slider", name="Vote of this problem")
    expect(slider).to_have_value(str(len(history) - 1))
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    wanted = history[-4].step
    expect(page.get_by_role("heading", name=f"The vote at step {wanted}", exact=True)).to_be_visible()
    expect(slider).to_have_value(str(len(history) - 4))
    expect(slider).to_be_focused()
    expect(slider).to_have_attribute("aria-valuetext", f"step {wanted}")
    with studio.store.writing(run_id) as connection:
        connection.execute("UPDATE runs SET phase_done = phase_done + 1 WHERE id = ?", (run_id,))
    page.wait_for_timeout(3000)
    expect(slider).to_have_value(str(len(history) - 4))
    expect(page.get_by_role("heading", name=f"The vote at step {wanted}", exact=True)).to_be_visible()
    page.keyboard.press("Home")
    expect(page.get_by_role("heading", name=f"The vote at step {history[0].step}", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile(rf"step={history[0].step}$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_ledger_on_a_phone_scrolls_in_one_direction_only(page: Page, studio, scheme: Literal["light", "dark"]):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{studio.url}/run?id={studio.runs['finished']}")
    page.locator("#run-tabs").get_by_role("button", name="More tabs").click()
    page.locator("#run-tabs .overflow-dropdown").get_by_role("button", name="Label changes").click()
    expect(page.locator("#run-flips tbody tr").first).to_be_visible()
    wrap = page.locator("#run-flips .tt-table-wrap")
    assert wrap.evaluate("place => place.scrollWidth <= place.clientWidth")
    for word in ("From", "To", "Consensus", "What it did"):
        said = page.locator("#run-flips tbody tr").first.evaluate(
            "row => [...row.cells].map((cell) => getComputedStyle(cell, '::before').content)"
        )
        assert f'"{word}"' in said
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
