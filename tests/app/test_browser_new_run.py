"""The new-run page in a real browser: what a run needs, and what can be done about it before it starts."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ttrl_engine.config import PRESETS
from ttrl_engine.preflight import Findings, Poll
from ttrl_engine.problems import load_problem_set

pytestmark = pytest.mark.e2e


def opened(page: Page, studio) -> list[str]:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(studio.url + "/new")
    expect(page.locator("#run-memory")).to_contain_text("at its peak")
    return errors


def test_the_memory_is_shown_by_part_and_a_button_sets_the_field(page: Page, empty_studio):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    errors = opened(page, empty_studio)
    memory = page.locator("#run-memory")
    memory.get_by_text("What takes it").click()
    expect(memory.get_by_role("row", name="Weights of the model")).to_be_visible()
    memory.get_by_text("Settings that would need less").click()
    votes = page.locator("#cfg-vote-num_votes input")
    expect(votes).to_have_value("64")
    before = memory.locator(".memory-bars").inner_text()
    memory.get_by_role("button", name="Fewer votes").press("Enter")
    expect(votes).to_have_value("32")
    expect(page.locator("#run-summary")).to_contain_text("Votes per problem (N) 32")
    assert memory.locator(".memory-bars").inner_text() != before
    assert errors == []
    assert [url for url in asked if not url.startswith((empty_studio.url, "data:", "blob:"))] == []


@pytest.mark.parametrize("checked", [False, True])
def test_the_page_fits_a_phone_and_has_no_serious_fault(page: Page, empty_studio, checked: bool):
    if checked:
        store = empty_studio.store
        set_id = store.add_problem_set(load_problem_set("bundled:sums"), source="bundled:sums")
        store.submit_preflight(PRESETS["quick-look"].config(), set_id)
        polls = (Poll("a", (7, 4), 16, 5, 5, True), Poll("b", (2, 1), 16, 0, 0), Poll("c", (16,), 16, 0, 0))
        store.record_preflight(store.claim_next("me"), 48, 48, Findings(polls, 96, 24.0, 0.006, 0.012))
    page.set_viewport_size({"width": 390, "height": 844})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        opened(page, empty_studio)
        if checked:
            expect(page.locator("#run-preflight .tt-pill")).to_have_text("Go")
        for summary in page.locator("#run-memory summary").all():
            summary.click()
        page.wait_for_timeout(600)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        faults = [f for f in Axe().run(page).response["violations"] if f["impact"] in ("serious", "critical")]
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
