"""The flip ledger: what it says, what its filters show, and its file."""

from __future__ import annotations

import csv
import io

import httpx
import pytest

from app import components as ui
from app.format import percent
from app.pages import run_flips
from app.pages.run_flips import FlipView, flip_counts, flip_view, flips_sentence, ledger
from app.pages.run_problems import problem_head
from tests.app.scripted import HOSTILE
from worker.rows import LabelFlipCounts


def test_the_sentence_names_the_net_only_where_references_can_judge():
    assert flips_sentence(LabelFlipCounts()) == ""
    assert flips_sentence(LabelFlipCounts(rescue=2, harm=5)) == (
        "A pseudo-label changed 7 times: 2 rescued, 5 harmed, net −3."
    )
    assert "nobody knows" in flips_sentence(LabelFlipCounts(unknown=1))
    assert "changed 1 time;" in flips_sentence(LabelFlipCounts(unknown=1))


def test_the_ledger_shows_its_net_its_kinds_and_one_page(studio):
    run = studio.store.run(studio.runs["finished"])
    counts = studio.store.label_flip_counts(run.id)
    html = ledger(studio.store, run, FlipView())
    assert flips_sentence(counts) in html
    assert f"Rescue {counts.rescue:,}" in html
    assert html.count("<tr data-key") == min(50, counts.total)
    rescues = ledger(studio.store, run, FlipView(kind="rescue"))
    assert ">harm</span>" not in rescues
    assert 'data-pick="kind:rescue" data-key="kind-rescue" aria-pressed="true"' in rescues


def test_a_page_beyond_the_last_shows_the_last_and_a_search_without_finds_says_so(studio):
    run = studio.store.run(studio.runs["finished"])
    assert "<tr data-key" in ledger(studio.store, run, FlipView(page=10_000))
    assert "No change matches" in ledger(studio.store, run, FlipView(query="no such problem"))


def test_what_a_model_or_an_upload_wrote_is_escaped(studio):
    html = ledger(studio.store, studio.store.run(studio.runs["unlabelled"]), FlipView(query=HOSTILE[:40]))
    assert "<img" not in html
    assert "<script" not in ledger(studio.store, studio.store.run(studio.runs["unlabelled"]), FlipView())


def test_without_a_change_it_says_when_there_will_be_one(studio):
    assert "No label has changed yet" in ledger(studio.store, studio.store.run(studio.runs["queued"]), FlipView())


@pytest.mark.parametrize(
    ("what", "value", "after"),
    [
        ("kind", "harm", FlipView("harm", "sum", 0)),
        ("kind", "all", FlipView("", "sum", 0)),
        ("kind", "x' OR 1", FlipView("rescue", "sum", 3)),
        ("find", " p0 ", FlipView("rescue", "p0", 0)),
        ("page", "7", FlipView("rescue", "sum", 7)),
        ("page", "-7", FlipView("rescue", "sum", 3)),
    ],
)
def test_only_known_clicks_change_the_view(what, value, after):
    assert flip_view(FlipView("rescue", "sum", 3), what, value) == after


def test_the_changes_are_counted_again_only_after_an_election(studio, monkeypatch):
    run_id = studio.runs["finished"]
    assert flip_counts(studio.store, run_id) == studio.store.label_flip_counts(run_id)
    monkeypatch.setattr(type(studio.store), "label_flip_counts", lambda *_: pytest.fail("counted again"))
    assert flip_counts(studio.store, run_id).total > 0
    run_flips._counts.clear()


def test_the_file_holds_every_change(studio):
    run_id = studio.runs["finished"]
    answer = httpx.get(f"{studio.url}/download/runs/{run_id}/label-changes.csv", timeout=20)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == studio.store.label_flip_counts(run_id).total
    assert rows[0]["kind"] in run_flips.KINDS
    assert httpx.get(f"{studio.url}/download/runs/999/label-changes.csv", timeout=20).status_code == 404


def test_the_head_of_a_problem_counts_its_changes_as_the_overview_does(studio):
    run = studio.store.run(studio.runs["weak"])
    row = max(studio.store.problem_overview(run.id), key=lambda each: each.flips)
    html = problem_head(run, None, row.problem_id, studio.store.election_history(run.id, row.problem_id))
    assert row.flips > 0
    assert ui.chip("changes of label", row.flips) in html
    assert ui.chip("ahead of the second answer by", percent(row.margin_last, 0)) in html
