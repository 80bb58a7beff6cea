"""A run that a safeguard has paused, in a real browser: what is offered, and that one click does it."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.scripted import Player, Script, problem_set
from worker.recorder import Recorder
from worker.settlement import Verdict
from worker.states import Intent, JobState

pytestmark = pytest.mark.e2e


def test_an_alarmed_run_is_cloned_slower_or_rolled_back_by_keyboard(page: Page, empty_studio):
    store = empty_studio.store
    player = Player(store, Script("Sums", problem_set("mine", references=False), total_steps=12, steps=8, alarm_at=7))
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for step in range(1, 9):
            player.step(recorder, step)
    for step in (3, 5):
        (player.folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.PAUSED, "A safeguard has paused the run."))

    address = f"{empty_studio.url}/run?id={player.run_id}"
    page.goto(address)
    choices = page.locator(".tt-choices").first
    expect(choices.get_by_role("listitem")).to_have_count(3)
    page.locator("summary", has_text="earlier checkpoint").press("Enter")
    expect(page.get_by_text("Recorded at step 3: consensus")).to_be_visible()
    found = Axe().run(page, context="#run-head + *, .tt-choices").response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    choices.get_by_role("link", name="Clone with a tenth of the learning rate").press("Enter")
    expect(page).to_have_url(re.compile(r"/new\?clone=\d+&learning_rate=2e-05$"))
    expect(page.locator("#cfg-train-learning_rate input").first).to_have_value("0.00002")

    page.goto(address)
    choices.get_by_role("button", name="Roll back to step 5").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the weights of step 5 become its result")
    dialog.get_by_role("button", name="Leave it as it is").press("Enter")
    assert store.job(player.job_id).state is JobState.PAUSED
    page.locator("summary", has_text="earlier checkpoint").press("Enter")
    page.get_by_role("button", name="Roll back to step 3").press("Enter")
    dialog.get_by_role("button", name="End the run there").press("Enter")
    expect(page.locator("#run-head")).to_contain_text("Queued")
    job = store.job(player.job_id)
    assert (job.intent, job.intent_step) == (Intent.ROLL_BACK, 3)
