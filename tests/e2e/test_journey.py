"""What a person does, from an upload to a report, with the tab closed on the way and the network off throughout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio, tiny_config, wait_until
from worker.states import JobState

pytestmark = pytest.mark.e2e


def set_number(page: Page, name: str, value: int) -> None:
    page.locator(f"#cfg-{name} input").fill(str(value))


def test_upload_launch_close_reopen_finish_compare_report(studio: Studio, upload: Any, sums_csv: Path, page: Page):
    upload(sums_csv)
    page.get_by_role("button", name="Save 24 problems").click()
    expect(page.locator("#problem-count")).to_contain_text("Problems 1 to 24 of 24")
    page.get_by_role("link", name="Start a run with this set").click()

    expect(page.locator("#run-summary")).to_contain_text("18 to learn from, 6 held out")
    for name, value in (("vote-num_votes", 8), ("vote-num_trained", 4)):
        set_number(page, name, value)
    page.locator("#advanced button").first.click()
    for name, value in (
        ("train-max_steps", 12),
        ("train-problems_per_step", 2),
        ("evaluate-every_steps", 0),
        ("evaluate-num_samples", 2),
    ):
        set_number(page, name, value)
    # So few votes look like trouble to a safeguard, which would pause the run.
    page.locator("#cfg-safeguards-action").get_by_label("note").check()
    expect(page.locator("#run-summary")).to_contain_text("Answers per step16")
    expect(page.locator("#run-summary")).to_contain_text("Votes per problem (N)")
    page.locator("#start-run").dblclick()
    page.wait_for_url("**/run?id=*")
    runs = studio.store.runs()
    assert len(runs) == 1, "a double click starts one run"
    run_id = runs[0].id

    expect(page.locator("body")).to_contain_text("Step", timeout=90_000)
    studio.wait_for_step(run_id, 2)
    page.close()
    step = studio.run(run_id).step
    wait_until(lambda: studio.run(run_id).step > step, 60, lambda: studio.story(run_id))

    again = page.context.new_page()
    again.goto(f"{studio.url}/run?id={run_id}")
    expect(again.locator("body")).to_contain_text(runs[0].name)
    assert studio.wait_for_end(run_id) is JobState.FINISHED, studio.story(run_id)
    expect(again.locator("body")).to_contain_text("Finished")

    again.goto(f"{studio.url}/compare?run={run_id}")
    expect(again.locator("#scores-bar")).to_contain_text("Who flipped which way")
    again.locator("#scores").get_by_role("link", name="Ask both").first.click()
    expect(again.get_by_label("Problem", exact=True)).to_have_value(re.compile("^Compute"))
    again.get_by_role("button", name="Ask both", exact=True).click()
    result = again.locator("#comparison-result")
    expect(result).to_contain_text("Base", timeout=120_000)
    expect(result).to_contain_text("Adapted")
    expect(result.locator("details")).to_have_count(16)
    expect(again.locator("#earlier")).to_contain_text("Compute")
    again.reload()
    expect(result.locator("details")).to_have_count(16)

    again.goto(f"{studio.url}/run?id={run_id}")
    again.get_by_role("tab", name="Files").click()
    with again.expect_download(timeout=60_000) as download:
        again.get_by_role("row", name="Evidence report, opens by itself").get_by_role("link").click()
    report = again.context.new_page()
    # Of the file alone, and `context` sees what it asks for.
    report.set_content(download.value.path().read_text(encoding="utf-8"))
    expect(report.get_by_role("heading", level=1)).to_contain_text(runs[0].name)


def test_a_second_run_waits_is_reordered_cancelled_and_cloned(studio: Studio, page: Page):
    studio.desk.hold(True)
    first = studio.desk.submit_run(tiny_config("First in line"), "first")
    second = studio.desk.submit_run(tiny_config("Second in line"), "second")
    page.goto(f"{studio.url}/queue")
    waiting = page.locator("[data-key=waiting] tbody tr")
    expect(waiting.nth(0)).to_contain_text("First in line")
    page.get_by_role("button", name="Move Second in line up").click()
    expect(waiting.nth(0)).to_contain_text("Second in line")
    page.get_by_role("button", name="Cancel Second in line").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(waiting).to_have_count(1)
    assert studio.run(second).state is JobState.STOPPED
    page.get_by_role("button", name="Release the queue").click()
    page.goto(f"{studio.url}/new?clone={second}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Clone of Second in line")
    set_number(page, "train-epochs", 3)
    expect(page.locator("#run-summary")).to_contain_text("Passes over the problems")
    page.locator("#start-run").click()
    page.wait_for_url("**/run?id=*")
    clone = studio.store.runs()[0]
    assert (clone.parent_run_id, clone.config.train.epochs, clone.config.vote.num_votes) == (second, 3, 8)
    studio.desk.cancel(clone.job_id)
    assert studio.wait_for_end(first) is JobState.FINISHED, studio.story(first)


def test_start_says_why_it_cannot(studio: Studio, page: Page):
    page.goto(f"{studio.url}/new")
    expect(page.locator("#run-summary")).to_contain_text("to learn from")
    set_number(page, "vote-num_votes", 4)
    expect(page.locator("#start-run")).to_have_text("Fix 2 settings to start")
    expect(page.locator("#start-run")).to_be_disabled()
    expect(page.locator("#run-summary")).to_contain_text("only 4 are sampled")
    page.locator("#cfg-model-source input").fill("/etc")
    page.locator("#cfg-model-source input").press("Enter")
    expect(page.locator("#model-facts")).to_contain_text(
        "Models are only read from the folders that the operator allows"
    )
