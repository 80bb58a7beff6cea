"""Judging runs in a real browser: the Gain tab, two runs against each other, the control with one click."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.scripted import Player, Script, problem_set

pytestmark = pytest.mark.e2e


def faults(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_gain_tab_tells_where_a_gain_came_from(page: Page, studio, scheme: Literal["light", "dark"]):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{studio.url}/run?id={studio.runs['finished']}")
    page.get_by_role("tab", name="Gain").click()
    section = page.locator("#run-gain")
    expect(section).to_contain_text("Where the gain came from: adapt")
    board = page.locator("#run-gain-charts")
    expect(board.locator(".tt-board-bar")).to_be_visible()
    expect(board.locator(".tt-toggle", has_text="Smooth")).to_be_hidden()
    # The folds open by keyboard.
    fold = section.locator("summary", has_text="By difficulty at the start").first
    fold.focus()
    page.keyboard.press("Enter")
    expect(section.locator("details[open]")).to_contain_text("never right")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert faults(page) == []


def test_two_of_the_chosen_runs_are_tested_against_each_other(page: Page, studio):
    ids = [studio.runs[name] for name in ("finished", "weak", "running")]
    page.goto(f"{studio.url}/runs?ids={','.join(map(str, ids))}")
    tables = page.locator("#runs-overlay-tables")
    expect(tables).to_contain_text("A answers")
    assert faults(page) == []
    tables.get_by_label("Run B").select_option(str(ids[2]))
    expect(page).to_have_url(re.compile(rf"second={ids[2]}"))
    page.reload()
    expect(tables.get_by_label("Run B")).to_have_value(str(ids[2]))
    tables.locator("summary").first.click()
    link = tables.get_by_role("link", name=re.compile("^A: problem")).first
    expect(link).to_have_attribute("href", re.compile(rf"/run\?id={ids[0]}&problem=p"))


def test_the_control_starts_with_one_click_that_is_asked_back(page: Page, empty_studio):
    play = Player(empty_studio.store, Script("Learns", problem_set("sums", references=True), total_steps=10, steps=10))
    run_id = play.play()
    page.goto(f"{empty_studio.url}/run?id={run_id}")
    page.get_by_role("tab", name="Gain").click()
    page.locator("#run-gain").get_by_role("button", name="Run the control").click()
    page.get_by_role("dialog").get_by_role("button", name="Run the control").click()
    expect(page.locator("#run-message")).to_contain_text("The control is in the queue")
    expect(page.locator("#run-gain")).to_contain_text("Queued")
    [control] = empty_studio.store.children(run_id)
    assert control.config.vote.reward == "random"
