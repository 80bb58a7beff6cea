"""The web process and the worker can be killed at any time; a run loses at most its unfinished step."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio, tiny_config, wait_until
from worker.states import JobState

pytestmark = pytest.mark.e2e


def test_a_run_does_not_notice_a_restart_of_the_web_process(studio: Studio, page: Page):
    run_id = studio.desk.submit_run(tiny_config("Outlives the web", **{"train.max_steps": 24}), "web-restart")
    page.goto(f"{studio.url}/queue")
    expect(page.locator("#queue")).to_contain_text("Outlives the web")
    studio.wait_for_step(run_id, 2)
    attempt, killed = studio.run(run_id).job.attempt, studio.web_pid()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not studio.is_ready() or studio.web_pid() != killed, 30, studio.output)
    wait_until(studio.is_ready, 60, studio.output)
    assert studio.wait_for_end(run_id) is JobState.FINISHED, studio.story(run_id)
    assert studio.run(run_id).job.attempt == attempt, "the run was never started anew"
    # The page comes back by itself and shows what has happened meanwhile.
    expect(page.locator("#queue [data-key=ended]")).to_contain_text("Outlives the web", timeout=60_000)


def test_a_run_goes_on_after_kill_9_of_the_worker(studio: Studio, page: Page):
    run_id = studio.desk.submit_run(tiny_config("Outlives the worker", **{"train.max_steps": 24}), "worker-kill")
    studio.wait_for_step(run_id, 5)
    attempt, killed = studio.run(run_id).job.attempt, studio.worker_pid()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: studio.run(run_id).job.attempt > attempt, 120, lambda: studio.story(run_id))
    page.goto(f"{studio.url}/queue")
    expect(page.locator("#queue")).to_contain_text("Outlives the worker")
    assert studio.wait_for_end(run_id) is JobState.FINISHED, studio.story(run_id)
    assert studio.worker_pid() != killed
    steps = [step for step, *_ in studio.store.metric_series(run_id, ["consensus"])["consensus"]]
    assert steps == list(range(1, 25)), "every step is there once"
