"""The triage map and the flip ledger in a real browser: by mouse, by keyboard, on a phone, in both schemes."""

from __future__ import annotations

import re
import threading
import time
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.pages import run as run_page
from app.pages import run_flips, run_records

pytestmark = pytest.mark.e2e


def faults(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def opened(page: Page, studio, name: str, tab: str) -> None:
    page.goto(f"{studio.url}/run?id={studio.runs[name]}")
    page.get_by_role("tab", name=tab).click()
    drawn = "#run-map svg path.triage-mark" if tab == "Problems" else "#run-flips tbody tr"
    expect(page.locator(drawn).first).to_be_visible()


def test_a_lasso_chooses_and_the_chosen_go_into_a_new_run(page: Page, studio):
    opened(page, studio, "finished", "Problems")
    plot = page.locator("#run-map .tt-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    left, right = box["x"] + 56, box["x"] + box["width"] - 16
    top, bottom = box["y"] + 4, box["y"] + box["height"] - 36
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left + 0.5 * (right - left), bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    bar = page.locator("#run-map .triage-bar").first
    expect(bar.locator("b")).to_have_text("36 of 36 chosen")
    page.get_by_role("button", name="Hold out").click()
    # The held-out problems have no vote; they are what is left.
    expect(page).to_have_url(re.compile(r"/new\?clone=\d+&set=[0-9a-f]{16}&measure=[0-9a-f]{16}$"))
    chosen = page.get_by_role("combobox", name="Problem set")
    expect(chosen).to_have_value("two-step sums (12 of 48) · 12 problems · all with references")
    expect(page.get_by_text("two-step sums (36 of 48, held out)").first).to_be_visible()


def test_the_map_is_used_by_keyboard_and_no_refresh_takes_the_choice_back(page: Page, studio):
    opened(page, studio, "running", "Problems")
    plot = page.locator("#run-map .tt-plot")
    plot.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
    count = page.locator("#run-map .triage-bar b").first
    expect(count).to_have_text(re.compile(r"^3 of \d+ chosen$"))
    expect(page.locator("#run-map [role=status]")).to_contain_text("chosen")
    with studio.store.writing(studio.runs["running"]) as connection:
        connection.execute("UPDATE runs SET phase_done = phase_done + 1 WHERE id = ?", (studio.runs["running"],))
    page.wait_for_timeout(3000)
    expect(count).to_have_text(re.compile(r"^3 of \d+ chosen$"))
    fold = page.locator("#run-map summary")
    fold.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#run-map tbody input:checked")).to_have_count(3)
    page.locator("#run-map tbody input").first.focus()
    page.keyboard.press("Space")
    expect(count).not_to_have_text(re.compile(r"^3 of"))
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("^Problem p"))).to_be_visible()


def test_without_references_nothing_can_be_held_out(page: Page, studio):
    opened(page, studio, "unlabelled", "Problems")
    page.locator("#run-map .tt-plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Only these")).to_be_enabled()
    expect(page.get_by_role("button", name="Hold out")).to_be_disabled()
    page.get_by_role("button", name="Only these").click()
    expect(page.locator("#run-message")).to_contain_text("at least 2 problems")


def test_the_ledger_filters_and_opens_the_vote_that_changed(page: Page, studio):
    opened(page, studio, "finished", "Label changes")
    ledger = page.locator("#run-flips")
    ledger.get_by_role("button", name=re.compile("^Rescue")).click()
    expect(ledger.get_by_role("button", name=re.compile("^Rescue"))).to_have_attribute("aria-pressed", "true")
    expect(ledger.locator("tbody")).not_to_contain_text("harm")
    find = ledger.get_by_role("searchbox")
    find.fill("p005")
    find.press("Enter")
    expect(ledger.locator("tbody tr, .flips-none").first).to_be_visible()
    find.fill("")
    find.press("Enter")
    ledger.locator("tbody a").first.click()
    expect(page.get_by_role("heading", name=re.compile("^Problem p"))).to_be_visible()
    expect(page).to_have_url(re.compile(r"problem=p\d+&step=\d+"))


def test_a_search_typed_before_the_last_answer_came_is_not_lost(page: Page, studio, monkeypatch: pytest.MonkeyPatch):
    opened(page, studio, "finished", "Label changes")
    ledger = page.locator("#run-flips")
    find, count = ledger.get_by_role("searchbox"), ledger.get_by_role("button", name=re.compile("^All"))
    everything, drawn = count.inner_text(), run_flips.ledger

    def slowly(*args) -> str:
        time.sleep(1.0)
        return drawn(*args)

    monkeypatch.setattr(run_flips, "ledger", slowly)
    find.fill("no such problem")
    find.press("Enter")
    find.fill("p005")
    expect(ledger.locator(".flips-none")).to_be_visible()
    expect(find).to_have_value("p005")
    find.press("Enter")
    find.fill("p00")
    find.press("Enter")
    find.fill("")
    find.press("Enter")
    expect(count).to_have_text(everything)
    expect(find).to_have_value("")


def test_a_refresh_that_began_before_a_search_does_not_undo_it(page: Page, studio, monkeypatch: pytest.MonkeyPatch):
    opened(page, studio, "running", "Label changes")
    ledger = page.locator("#run-flips")
    count = ledger.get_by_role("button", name=re.compile("^All"))
    everything, drawn, begun = count.inner_text(), run_records.history_view, threading.Event()

    def slowly(*args) -> str:
        if not begun.is_set():
            begun.set()
            time.sleep(2.0)
        return drawn(*args)

    monkeypatch.setattr(run_page, "history_view", slowly)
    with studio.store.writing(studio.runs["running"]) as connection:
        connection.execute("UPDATE runs SET phase_done = phase_done + 1 WHERE id = ?", (studio.runs["running"],))
    assert begun.wait(10)
    find = ledger.get_by_role("searchbox")
    find.fill("p005")
    find.press("Enter")
    expect(count).not_to_have_text(everything)
    found = count.inner_text()
    page.wait_for_timeout(2500)
    # A further click acts on what was chosen before: it would show all changes if the search had been forgotten.
    count.click()
    page.wait_for_timeout(1000)
    expect(count).to_have_text(found)
    expect(find).to_have_value("p005")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_map_and_ledger_fit_a_phone_and_have_no_serious_fault(page: Page, studio, scheme: Literal["light", "dark"]):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened(page, studio, "finished", "Problems")
    page.locator("#run-map summary").click()
    expect(page.locator("#run-map tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert faults(page) == []
    # Here the last tabs are behind the menu of tabs.
    page.locator("#run-tabs").get_by_role("button", name="More tabs").click()
    page.locator("#run-tabs .overflow-dropdown").get_by_role("button", name="Label changes").click()
    expect(page.locator("#run-flips tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert faults(page) == []
    assert errors == []
