"""The triage map: what it draws, and how a choice becomes the problem sets of a new run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.pages.run_triage import MOST_SHOWN, derived_run, dump, places, sentence
from app.services import Services
from ttrl_engine.errors import DataError
from worker.settings import Settings


@pytest.fixture(scope="module")
def services(studio):
    return Services.open(Settings(data_dir=studio.store.data_dir))


def test_every_problem_that_voted_is_drawn_with_its_verdict(studio):
    run = studio.store.run(studio.runs["finished"])
    overview = studio.store.problem_overview(run.id)
    data = json.loads(dump(run, overview))
    assert len(data["points"]) == len(overview)
    row = overview[3]
    idx, problem_id, _, consensus, change, flips, kind, label = data["points"][3]
    assert (idx, problem_id, flips, kind, label) == (
        row.idx,
        row.problem_id,
        row.flips,
        int(bool(row.label_correct)),
        row.last_label,
    )
    assert consensus == pytest.approx(row.consensus_last, abs=1e-4)
    assert change == pytest.approx(row.consensus_last - row.consensus_first, abs=1e-4)
    assert data["can_hold"]


def test_without_references_nothing_is_called_right_or_wrong(studio):
    run = studio.store.run(studio.runs["unlabelled"])
    data = json.loads(dump(run, studio.store.problem_overview(run.id)))
    assert {point[6] for point in data["points"]} == {2}
    assert not data["can_hold"]
    assert "reference" not in data["text"]


def test_no_text_of_a_problem_can_be_taken_for_markup(studio):
    run = studio.store.run(studio.runs["unlabelled"])
    assert "<" not in dump(run, studio.store.problem_overview(run.id))


def test_a_map_too_large_to_draw_says_what_it_leaves_out(studio):
    run = studio.store.run(studio.runs["finished"])
    row = studio.store.problem_overview(run.id)[0]
    many = [replace(row, idx=i, problem_id=f"q{i}", consensus_last=i / 3000) for i in range(3000)]
    data = json.loads(dump(run, many))
    assert len(data["points"]) == MOST_SHOWN
    assert "Shown are the 2,000 with the least agreement." in data["text"]
    assert sentence([], 0) == "No problem has voted yet."


def test_places_are_read_from_ranges_and_nothing_else():
    assert places("0-2,5", 6) == {0, 1, 2, 5}
    for text in ("", "a", "1-", "-1", "3-1", "5-6", "1,,2", "٣", "1;2", "0-999999999999"):
        with pytest.raises(DataError, match="Reload the page"):
            places(text, 6)


def test_a_choice_becomes_a_set_of_its_own(studio, services):
    run = studio.store.run(studio.runs["finished"])
    address = derived_run(services, run, "only", "0-4,7")
    chosen = services.store.load_problem_set(address.partition("&set=")[2])
    assert address.startswith(f"/new?clone={run.id}&set=")
    assert chosen.name == "two-step sums (6 of 48)"
    assert [problem.id for problem in chosen.problems] == ["p000", "p001", "p002", "p003", "p004", "p007"]
    assert chosen.num_references == 6
    rest = services.store.load_problem_set(derived_run(services, run, "drop", "0-4,7").partition("&set=")[2])
    assert len(rest.problems) == 42
    assert not {problem.id for problem in rest.problems} & {problem.id for problem in chosen.problems}


def test_what_is_held_out_is_scored_and_not_learned(studio, services):
    run = studio.store.run(studio.runs["finished"])
    address = derived_run(services, run, "hold", "0-9")
    learned, measured = address.partition("&set=")[2].split("&measure=")
    assert len(services.store.load_problem_set(learned).problems) == 38
    held = services.store.load_problem_set(measured)
    assert held.name == "two-step sums (10 of 48, held out)"
    assert held.num_references == 10


@pytest.mark.parametrize(
    ("name", "action", "chosen", "why"),
    [
        ("finished", "only", "4", "at least 2 problems"),
        ("finished", "drop", "0-46", "at least 2 problems"),
        ("unlabelled", "hold", "0-9", "has a reference answer"),
        ("finished", "burn", "0-9", "Reload the page"),
    ],
)
def test_a_choice_that_makes_no_run_is_refused_and_stores_nothing(studio, services, name, action, chosen, why):
    before = len(services.store.problem_sets(archived=True))
    with pytest.raises(DataError, match=why):
        derived_run(services, studio.store.run(studio.runs[name]), action, chosen)
    assert len(services.store.problem_sets(archived=True)) == before
