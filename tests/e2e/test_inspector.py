"""The inspector of one vote: merge two answers, see the vote recomputed, save the rule, find it again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from app.format import percent
from tests.e2e.studio import Studio, tiny_config
from worker.states import JobState

pytestmark = pytest.mark.e2e


def test_merged_answers_are_voted_on_again_and_saved_for_the_set(studio: Studio, page: Page):
    changes = {"vote.num_votes": 12, "vote.num_trained": 6, "train.max_steps": 2, "data.max_problems": 8}
    run_id = studio.desk.submit_run(tiny_config("To be inspected", **changes), "inspected")
    assert studio.wait_for_end(run_id) is JobState.FINISHED, studio.story(run_id)
    elections = studio.store.elections_at(run_id, 1)
    split = max(elections, key=lambda each: each.num_classes)
    one, other = split.classes[0], split.classes[1]
    page.goto(f"{studio.url}/run?id={run_id}&problem={split.problem_id}&step=1")
    answers = page.locator("#run-answers")
    expect(answers).to_contain_text("The vote at step 1")
    expect(answers.get_by_role("button", name="Make one answer")).to_be_disabled()

    answers.get_by_role("button", name="Read the rollouts of").first.press("Enter")
    expect(answers).to_contain_text(f"1 of {one.count}")
    answers.get_by_label(f"Choose {one.answer}", exact=True).press("Space")
    answers.get_by_label(f"Choose {other.answer}", exact=True).press("Space")
    answers.get_by_role("button", name="Make one answer").click()
    expect(answers).to_contain_text("The vote at step 1 under your rule")
    merged = percent((one.count + other.count) / split.num_rollouts, 0)
    before = answers.get_by_role("table", name="The vote before and after the change")
    expect(before.locator("[data-key=Consensus]")).to_contain_text(merged)
    expect(answers).to_contain_text("votes of this problem would change")

    answers.get_by_role("button", name="Undo").click()
    expect(answers).not_to_contain_text("under your rule")
    answers.get_by_label(f"Choose {one.answer}", exact=True).check()
    answers.get_by_label(f"Choose {other.answer}", exact=True).check()
    answers.get_by_role("button", name="Make one answer").click()
    answers.get_by_role("button", name="Save for the problem set").click()
    expect(answers).to_contain_text("Saved for the problem set")

    page.reload()
    expect(answers).to_contain_text("The problem set has a rule of its own since this run began")
    answers.get_by_role("button", name="Hold the votes under it").click()
    expect(before.locator("[data-key=Consensus]")).to_contain_text(merged)
    [rule] = studio.store.problem_set(studio.run(run_id).set_id).rule.merges  # type: ignore[union-attr]
    assert (rule.problem_id, set(rule.answers)) == (split.problem_id, {one.answer, other.answer})

    later = studio.desk.submit_run(tiny_config("Under the rule", **changes), "later")
    assert studio.run(later).config.answers.merges == (rule,)
    assert studio.run(run_id).config.answers.merges == (), "the run keeps the rule it was started with"
    page.goto(f"{studio.url}/run?id={later}")
    page.get_by_role("tab", name="Config").click()
    expect(page.locator("#run-config")).to_contain_text("answers.merges")
    studio.desk.cancel(studio.run(later).job_id)
