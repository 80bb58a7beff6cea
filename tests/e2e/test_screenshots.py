"""The README's pictures, of a real run: `make screenshots` runs the demo to its end and writes them to docs/images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio, tiny_config
from ttrl_engine.config import PRESETS
from worker.states import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_screenshots_of_a_finished_run(studio: Studio, page: Page, tmp_path: Path):
    wanted = os.environ.get("TTRL_STUDIO_SCREENSHOTS")
    config = PRESETS["quick-look"].config() if wanted else tiny_config("Pictured", **{"train.max_steps": 2})
    run_id = studio.desk.submit_run(config, "pictured")
    assert studio.wait_for_end(run_id, timeout_s=1100) is JobState.FINISHED, studio.story(run_id)
    folder = Path(wanted) if wanted else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    page.set_viewport_size({"width": 1280, "height": 1180})
    page.goto(f"{studio.url}/run?id={run_id}")
    expect(page.locator("body")).to_contain_text("Finished")
    expect(page.locator("svg polyline, svg path").first).to_be_visible()
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "run.png")
    page.goto(f"{studio.url}/compare?run={run_id}")
    expect(page.locator("#scores-bar")).to_contain_text("Who flipped which way")
    page.screenshot(path=folder / "compare.png")
    assert all((folder / name).stat().st_size > 20_000 for name in ("run.png", "compare.png"))
