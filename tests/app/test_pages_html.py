"""What the pages say, without a browser: the pure functions from rows to HTML over a furnished store."""

from __future__ import annotations

import json

import pytest

from app import components as ui
from app.pages import run, runs
from app.pages.overview import start_demo
from app.pages.run import PARTS, Seen, refreshed
from app.pages.run_problems import View
from app.services import Services
from tests.app.scripted import HOSTILE
from worker.settings import Settings


@pytest.fixture(scope="module")
def services(studio):
    return Services.open(Settings(data_dir=studio.store.data_dir))


def parts_of(services, run_id, **view):
    values = refreshed(services, Seen(run_id, view=View(**view)), force=True)
    return dict(zip(("seen", "timer", *PARTS), values, strict=True))


def test_a_run_without_references_says_unknown_and_never_zero(services, studio):
    parts = parts_of(services, studio.runs["unlabelled"])
    assert parts["tiles"].count("no reference answers") == 3
    labels = next(chart for chart in json.loads(parts["charts"])["charts"] if chart["id"] == "labels")
    assert labels["missing"] == "Unknown: no reference answers. Check 20 labels to unlock."
    assert labels["missing_url"] == f"/run?id={studio.runs['unlabelled']}&tab=spot"


def test_a_gain_names_split_n_and_interval(services, studio):
    tiles = parts_of(services, studio.runs["finished"])["tiles"]
    assert "Gain on adapt problems" in tiles
    assert "n = 36 problems × 8" in tiles
    assert "95 % [+" in tiles


def test_a_failed_run_says_what_why_and_what_next(services, studio):
    strips = parts_of(services, studio.runs["failed"])["strips"]
    assert "The memory did not suffice." in strips
    assert "What to do:" in strips
    assert "after step 7" in strips


def test_what_a_model_wrote_is_escaped_everywhere(services, studio):
    for name in ("unlabelled", "failed"):
        parts = parts_of(services, studio.runs[name], problem="p001")
        for part in PARTS:
            if part not in ("charts", "details", "picked_votes"):  # JSON, drawn as text by the browser
                assert "<script" not in str(parts[part])
                assert "<img" not in str(parts[part])
    assert ui.escape(HOSTILE) in parts_of(services, studio.runs["unlabelled"])["head"]


def test_nothing_is_sent_when_nothing_has_changed(services, studio):
    first = refreshed(services, Seen(studio.runs["finished"]))
    again = refreshed(services, first[0])
    assert all(isinstance(value, dict) and value.get("__type__") == "update" and len(value) == 1 for value in again)


def test_an_unknown_run_is_an_empty_page_with_a_way_out(services):
    parts = parts_of(services, 12345)
    assert "No such run" in parts["head"]
    assert parts["charts"] == parts["tiles"] == ""


@pytest.mark.parametrize(
    "value", ["problem:" + HOSTILE, "page:-1", "page:9999999999999", "step:x", "nothing", ":", "sort:hack"]
)
def test_a_strange_click_changes_nothing_that_matters(services, studio, value):
    what, _, rest = value.partition(":")
    view = run._pick(View(), what, rest)
    parts = parts_of(services, studio.runs["finished"], **view.__dict__)
    assert "<script" not in parts["problems"] + parts["picked_head"]


def test_only_the_run_of_the_page_can_be_acted_on(services, studio):
    other = services.store.run(studio.runs["queued"])
    message = run._act(services, Seen(studio.runs["finished"]), "cancel", str(other.job_id))
    assert "Nothing was done" in message
    assert services.store.run(studio.runs["queued"]).state == "queued"


@pytest.mark.parametrize("ids", ["1,1,2", "1,x,2,,", "1,2,3,4,5,6,7,8", "-1", "9" * 40])
def test_any_address_of_the_runs_page_gives_a_choice(ids):
    choice = runs.choice_of({"ids": ids, "metric": "nonsense"})
    assert len(choice.ids) <= runs.MAX_CHOSEN
    assert len(set(choice.ids)) == len(choice.ids)
    assert choice.metric == "consensus"


def test_the_demo_started_twice_is_one_run(empty_studio):
    services = Services.open(Settings(data_dir=empty_studio.store.data_dir))
    assert start_demo(services) == start_demo(services)
    assert len(services.store.runs()) == 1
