"""The pages in a real browser over a furnished data folder: they draw and keep still."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app.scripted import Player, Script, problem_set
from worker.recorder import Recorder
from worker.store.holding import Claim

pytestmark = pytest.mark.e2e

PATHS = ("/", "/run?id={finished}", "/run?id={failed}", "/runs?ids={finished},{unlabelled}", "/settings")


def opened(page: Page, studio, path: str) -> list[str]:
    """The page is drawn; returns the list that collects its errors."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(studio.url + path.format(**studio.runs))
    expect(page.locator("main h1").first).to_be_visible()
    return errors


@pytest.mark.parametrize("path", [*PATHS, "/run?id={unlabelled}&problem=p001"])
def test_a_page_draws_without_errors_or_outside_requests(page, studio, path):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    errors = opened(page, studio, path)
    page.wait_for_timeout(1500)
    assert errors == []
    assert [url for url in asked if not url.startswith((studio.url, "data:", "blob:"))] == []
    assert page.evaluate("window.pwned") is None


def test_the_colour_scheme_is_kept(page, studio):
    opened(page, studio, "/")
    page.get_by_role("button", name="Dark colours").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("body")).to_have_class(re.compile("dark"))


def axis(page: Page) -> list[str]:
    return page.locator("#run-charts .tt-svg").first.locator(".tt-axis-text").all_text_contents()


def test_a_live_run_moves_on_and_the_zoom_stays(page, studio):
    """New steps arrive by themselves; what the visitor zoomed into does not move."""
    opened(page, studio, "/run?id={running}")
    plot = page.locator("#run-charts .tt-plot").first
    expect(page.locator("#run-head")).to_contain_text("Step 37 of 120")
    plot.scroll_into_view_if_needed()
    whole, box = axis(page), plot.bounding_box()
    page.mouse.move(box["x"] + 70, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 60, steps=4)
    page.mouse.up()
    zoomed = axis(page)
    assert zoomed != whole
    take_step(studio, 38)
    expect(page.locator("#run-head")).to_contain_text("Step 38 of 120", timeout=15_000)
    assert axis(page) == zoomed
    plot.dblclick()
    assert axis(page) == whole


def take_step(studio, step: int) -> None:
    """The running run takes one more step."""
    store = studio.store
    run = store.run(studio.runs["running"])
    player = Player.of(
        store, run, Script("Second seed", problem_set("two-step sums", references=True), total_steps=120)
    )
    with Recorder(store, Claim(run.job_id, run.job.attempt), run.id) as recorder:
        player.step(recorder, step)


def test_values_are_read_by_mouse_and_by_keys(page, studio):
    opened(page, studio, "/run?id={finished}")
    plot = page.locator("#run-charts .tt-plot").first
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tt-tip").first).to_contain_text("Step 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tt-tip").first).to_contain_text("Consensus")


def test_a_chart_is_saved_as_picture_and_table(page, studio):
    opened(page, studio, "/run?id={finished}")
    for name, ending in (("Save as PNG", "png"), ("Save the values as CSV", "csv")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).first.click()
        assert download.value.suggested_filename == f"run-{studio.runs['finished']}-consensus.{ending}"


def test_a_problem_opens_by_click_and_by_address(page, studio):
    opened(page, studio, "/run?id={finished}")
    page.get_by_role("tab", name="Problems").click()
    page.locator("#run-problems td a").nth(3).click()
    expect(page.locator("#run-answers h2").first).to_contain_text("The vote at step")
    assert "problem=" in page.url
    heading = page.locator("#run-answers h2").first.inner_text()
    page.reload()
    expect(page.locator("#run-answers h2").first).to_have_text(heading)
    page.locator("#run-answers button[data-pick^='reading:']").first.click()
    expect(page.locator("#run-answers pre").first).to_contain_text("boxed")


def test_cancel_asks_back_first(page, studio):
    opened(page, studio, "/run?id={queued}")
    page.locator("#run-head").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Go back").click()
    assert studio.store.run(studio.runs["queued"]).state == "queued"


def test_a_run_is_renamed_and_noted(page, studio):
    opened(page, studio, "/run?id={weak}")
    page.get_by_role("tab", name="History").click()
    page.get_by_label("Note").fill("Learning rate too small?")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    assert studio.store.run(studio.runs["weak"]).note == "Learning rate too small?"


def test_a_choice_of_runs_is_kept_in_the_address(page, studio):
    opened(page, studio, "/runs")
    page.get_by_label("Choose Hardly learns").click()
    page.get_by_label("Choose Second seed").click()
    expect(page.locator("#runs-overlay .tt-key")).to_have_count(2)
    page.locator("#runs-overlay-head select").select_option("adapt")
    expect(page.locator("#runs-overlay h2")).to_have_text("pass@1, adapt")
    page.reload()
    expect(page.locator("#runs-overlay .tt-key")).to_have_count(2)
    expect(page.locator("#runs-overlay h2")).to_have_text("pass@1, adapt")
    expect(page.get_by_label("Choose Hardly learns")).to_be_checked()


def test_a_double_click_on_the_demo_gives_one_run(page, empty_studio):
    opened(page, empty_studio, "/")
    page.get_by_role("button", name="Start the demo run").dblclick()
    expect(page).to_have_url(re.compile(r"/run\?id=\d+$"), timeout=20_000)
    assert len(empty_studio.store.runs()) == 1


def test_a_run_of_the_script_is_what_the_page_shows(page, empty_studio):
    """The page is a function of the database: a run that ends behind its back is found finished after a reload."""
    run_id = Player(
        empty_studio.store, Script("Behind your back", problem_set("sums", references=True), steps=10)
    ).play()
    opened(page, empty_studio, f"/run?id={run_id}")
    expect(page.locator("#run-head")).to_contain_text("Finished")
