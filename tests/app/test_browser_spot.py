"""The spot check in a real browser, by keyboard alone, on a run that goes on meanwhile."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.scripted import Player, Script, problem_set
from worker.recorder import Recorder

pytestmark = pytest.mark.e2e


def faults(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def test_labels_are_checked_by_keyboard_while_the_run_goes_on(page: Page, empty_studio):
    store = empty_studio.store
    script = Script("Unlabelled", problem_set("mine", references=False), total_steps=40, steps=12, seed=5, ends=None)
    player = Player(store, script)
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for step in range(1, 13):
            player.step(recorder, step)
        page.goto(f"{empty_studio.url}/run?id={player.run_id}")
        # The tile and the chart that cannot know lead here.
        expect(page.get_by_role("link", name="Check 20 labels to unlock")).to_have_attribute(
            "href", f"/run?id={player.run_id}&tab=spot"
        )
        page.get_by_role("link", name="check 20 to unlock", exact=True).click()
        head, question = page.locator("#spot-head"), page.locator("#spot-question")
        head.get_by_role("button", name="Draw 20 problems").press("Enter")
        box = question.get_by_label("Your answer")
        expect(box).to_be_focused()
        check = store.spot_check(player.run_id)
        assert check is not None
        # What is typed outlives the steps that the run takes meanwhile.
        page.keyboard.type("12")
        for step in (13, 14, 15):
            player.step(recorder, step)
        expect(page.locator("#run-head")).to_contain_text("Step 15")
        expect(box).to_have_value("12")
        page.keyboard.type("345")
        page.keyboard.press("Enter")
    expect(head).to_contain_text("1 of 20 done")
    expect(page.locator("#spot-message")).to_contain_text("You said 12345")
    expect(box).to_have_value("")

    # The label is on the page only once it is asked for, and then the focus is on the verdict.
    question.get_by_role("button", name="Show the label").press("Enter")
    verdict = question.get_by_role("button", name=re.compile("It is right|Go on"))
    expect(verdict).to_be_focused()
    page.keyboard.press("Enter")
    expect(head).to_contain_text("2 of 20 done")
    expect(box).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#spot-message")).to_contain_text("not counted")
    head.get_by_role("button", name="Undo").press("Enter")
    expect(page.locator("#spot-message")).to_contain_text("Taken back")
    expect(head).to_contain_text("2 of 20 done")
    for done in range(3, 7):
        box.fill("1")
        box.press("Enter")
        expect(head).to_contain_text(f"{done} of 20 done")
    result = page.locator("#spot-result")
    expect(result).to_contain_text("n = 6 of 20 drawn")
    expect(page.locator("#spot-accuracy")).to_contain_text("Label accuracy of the checked problems")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert faults(page) == []
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert faults(page) == []

    # Another visit goes on where this one stopped.
    page.reload()
    expect(head).to_contain_text("6 of 20 done")
    expect(result).to_contain_text("n = 6 of 20 drawn")
    expect(page.locator(".tt-tile", has_text="Label accuracy, spot check")).to_contain_text("95 %")
