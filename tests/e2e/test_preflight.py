"""Checked before it is started: the bundled model on the set that it can learn, and on the one out of its depth."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio

pytestmark = pytest.mark.e2e


def test_check_first_says_go_for_sums_and_do_not_bother_for_hard_ones(studio: Studio, page: Page):
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{studio.url}/new")
    check, summary = page.locator("#run-preflight"), page.locator("#run-summary")
    expect(summary).to_contain_text("measured after the first step")
    check.get_by_role("button", name="Check first").click()
    expect(check.get_by_role("progressbar", name="Progress of the check")).to_be_visible()
    expect(check.locator(".tt-pill")).to_have_text("Go", timeout=180_000)
    expect(check).to_contain_text("of 32 by your reference answers")
    expect(summary).to_contain_text("by the check")

    # Votes and updates are not what was checked, the length of answers is.
    page.locator("#cfg-vote-num_votes input").fill("48")
    expect(summary).to_contain_text("Votes per problem (N) 48")
    expect(check.locator(".tt-pill")).to_have_text("Go")
    page.locator("#cfg-vote-max_new_tokens input").fill("161")
    expect(check.get_by_role("button", name="Check first")).to_be_visible()
    page.locator("#cfg-vote-max_new_tokens input").fill("160")

    sets = page.locator("#cfg-data-problems input")
    sets.click()
    page.get_by_role("option", name="Sums hard").click()
    check.get_by_role("button", name="Check first").click()
    expect(check.locator(".tt-pill")).to_have_text("Do not bother", timeout=180_000)
    expect(page.locator("#start-run")).to_be_enabled()

    page.goto(f"{studio.url}/new")
    expect(check.locator(".tt-pill")).to_have_text("Go")
    page.locator("#start-run").scroll_into_view_if_needed()
    assert errors == []
