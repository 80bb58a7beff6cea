"""Base against adapted with the bundled model: answers that grow, a whole set, and a blind session by keyboard."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio, tiny_config, wait_until
from worker.states import JobState

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def run_id(studio: Studio) -> int:
    # One step that changes much: two equal answers cannot be judged.
    changes = {"train.max_steps": 1, "checkpoint.every_steps": 1, "data.max_problems": 4, "train.learning_rate": 2e-3}
    found = studio.desk.submit_run(tiny_config("Compared", **changes), "compared")
    assert studio.wait_for_end(found) is JobState.FINISHED, studio.story(found)
    return found


def faults(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def fits_and_is_accessible(page: Page) -> None:
    """In both schemes, and at the width of a phone."""
    assert faults(page) == []
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert faults(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.set_viewport_size({"width": 1360, "height": 900})


def test_answers_are_read_while_they_are_written_and_can_be_stopped(studio: Studio, page: Page, run_id: int):
    page.goto(f"{studio.url}/compare?run={run_id}")
    page.get_by_label("Problem", exact=True).fill("Compute 345 + 278 - 19.")
    # So many answers that the first text is there long before the last one; and a checkpoint, not the final weights.
    page.locator("#compare-samples input[type=number]").fill("64")
    page.get_by_label("Adapted weights").click()
    page.get_by_role("option", name="step 1").click()
    page.locator("#ask-both").click()
    result = page.locator("#comparison-result")
    expect(result).to_contain_text(re.compile("its turn comes|answering|writing"), timeout=60_000)
    result.get_by_role("button", name="Stop").click()
    expect(result).to_contain_text("This comparison was cancelled.", timeout=60_000)
    [stopped] = studio.store.comparisons(run_id)
    assert (stopped.step, stopped.state) == (1, JobState.STOPPED)


def test_a_whole_set_is_asked_filtered_and_read(studio: Studio, page: Page, run_id: int):
    page.goto(f"{studio.url}/compare?run={run_id}")
    # Before the page has loaded, its handlers would not see what is typed.
    expect(page.locator("#set-chosen input")).not_to_have_value("", timeout=30_000)
    page.locator("#set-problems input").fill("6")
    page.locator("#set-samples input[type=number]").fill("2")
    page.locator("#ask-set").click()
    bar, table = page.locator("#scores-bar"), page.locator("#scores")
    expect(bar).to_contain_text("Asked: sums, 6", timeout=30_000)
    expect(bar).to_contain_text("exact McNemar", timeout=60_000)
    expect(table.locator("tbody tr")).to_have_count(6, timeout=60_000)
    name = studio.store.set_comparisons(run_id)[0].problem_ids[0]
    bar.get_by_role("searchbox").fill(name)
    bar.get_by_role("searchbox").press("Enter")
    expect(table.locator("tbody tr")).to_have_count(1, timeout=30_000)
    page.reload()
    expect(table.locator("tbody tr")).to_have_count(1, timeout=30_000)
    table.get_by_role("link", name="Read the answers").click()
    result = page.locator("#comparison-result")
    expect(result.locator("details")).to_have_count(4)
    expect(result).to_contain_text("Reference answer")
    expect(page.locator("#pair-bar")).to_contain_text("Answer 1 of 2")
    page.get_by_role("button", name="Next answer").press("Enter")
    expect(page.locator("#pair-bar")).to_contain_text("Answer 2 of 2")
    page.get_by_role("button", name="Formulas").click()
    expect(page.locator("#pair-math .problem")).to_have_count(2)
    fits_and_is_accessible(page)


def test_a_blind_session_by_keyboard_hides_names_until_it_ends(studio: Studio, page: Page, run_id: int):
    page.goto(f"{studio.url}/blind?run={run_id}")
    page.locator("#blind-problems input[type=number]").fill("20")
    page.locator("#blind-start").click()
    stage = page.locator("#blind-stage")
    expect(stage).to_contain_text("0 of", timeout=120_000)
    expect(page).to_have_url(re.compile(r"/blind\?session=\d+$"))
    [session] = studio.store.blind_sessions(run_id)
    expect(page.locator("#blind-question .blind-answer")).to_have_count(2)
    said = page.locator("#blind-question").inner_text() + page.locator("#blind-buttons").inner_text()
    assert re.search("adapted|base", said, re.IGNORECASE) is None
    fits_and_is_accessible(page)
    for done, key in enumerate("134", 1):
        page.keyboard.press(key)
        expect(stage).to_contain_text(f"{done} of")
    page.keyboard.press("u")
    expect(stage).to_contain_text("2 of")
    page.get_by_role("button", name="Right is better").press("Enter")
    expect(stage).to_contain_text("3 of")
    page.reload()
    expect(stage).to_contain_text("3 of")
    assert [vote.said for vote in studio.store.blind_votes(session.id)] == ["left", "tie", "right"]
    page.get_by_role("button", name="End and show the names").click()
    page.get_by_role("button", name="Show the names", exact=True).click()
    result = page.locator("#blind-result")
    expect(result).to_contain_text("Adapted preferred")
    expect(result).to_contain_text("exact sign test")
    expect(result.locator("tbody tr")).to_have_count(3)
    assert faults(page) == []
    wait_until(lambda: studio.store.blind_sessions(run_id)[0].ended_at is not None, 5, lambda: "not ended")
