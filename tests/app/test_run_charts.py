"""The charts of a run: what is marked on them and which lines are there to beat."""

from __future__ import annotations

import json

import pytest

from app.charts import dump
from app.pages.run import PARTS, Seen, refreshed
from app.pages.run_charts import METRICS, detail_charts, event_marks, learning_charts
from app.services import Services
from worker.rows import AlarmRow, CheckpointRow, NoteRow
from worker.settings import Settings


@pytest.fixture(scope="module")
def drawn(studio):
    services = Services.open(Settings(data_dir=studio.store.data_dir))
    values = refreshed(services, Seen(studio.runs["finished"]), force=True)
    parts = dict(zip(("seen", "timer", *PARTS), values, strict=True))
    return {chart["id"]: chart for name in ("charts", "details") for chart in json.loads(parts[name])["charts"]}


def test_variety_trained_answers_and_gpu_have_charts_and_no_gpu_has_none(studio):
    run = studio.store.run(studio.runs["finished"])
    names = ("answer_entropy", "trained_reward_mean", "trained_truth_share", "pass_any", "gpu.busy", "gpu.memory")
    data = dict.fromkeys(METRICS, ()) | {name: [(1, 0.25, 0.25, 0.25), (2, 0.5, 0.5, 0.5)] for name in names}
    charts = {each.id: each for each in [*learning_charts(run, data, [], []), *detail_charts(run, data, [])]}
    plain = {each["id"]: each for each in json.loads(dump(charts.values()))["charts"]}
    assert "from 25.0" in plain["variety"]["text"]
    assert [series["name"] for series in plain["gpu"]["series"]] == ["Busy", "Memory in use, greatest"]
    assert all(plain[name]["file"] == f"run-{run.id}-{name}" for name in ("variety", "trained", "any-right", "gpu"))
    assert set(names) <= set(METRICS)
    without = data | {"gpu.busy": (), "gpu.memory": ()}
    assert "gpu" not in {each.id for each in detail_charts(run, without, [])}


def test_checkpoints_resumes_warnings_and_alarms_are_marked_where_they_happened():
    notes = [
        NoteRow(1, 1, 4, "info", "Resumed from the checkpoint of step 4.", 0.0),
        NoteRow(2, 1, 5, "info", "Nothing special.", 0.0),
        NoteRow(3, 1, 6, "warning", "The batch was halved.", 0.0),
        NoteRow(4, 1, 0, "warning", "Before the first step.", 0.0),
    ]
    alarms = [AlarmRow(1, 1, 8, "kl", "A jump.", 1.0, 0.5, "note", 0.0)]
    marks = event_marks(alarms, notes, [CheckpointRow(1, 5, "step-000005", 0.0)])
    assert [(mark.x, mark.kind) for mark in marks] == [(5, "checkpoint"), (4, "resume"), (6, "event"), (8, "alarm")]


def test_many_checkpoints_take_no_alarm_away():
    alarms = [AlarmRow(1, 1, 2, "kl", "A jump.", 1.0, 0.5, "note", 0.0)]
    marks = event_marks(alarms, [], [CheckpointRow(1, step, "", 0.0) for step in range(500)])
    assert marks[0].x == 440
    assert marks[-1].kind == "alarm"


def test_every_benchmark_shows_its_base_alone_and_by_vote(drawn):
    lines = {line["name"]: line["dotted"] for line in drawn["benchmarks"]["baselines"]}
    assert lines == {
        "Base pass@1, sums-benchmark": True,
        "Base vote maj@8, sums-benchmark": False,
        "Base pass@1, sums-hard": True,
        "Base vote maj@8, sums-hard": False,
    }


def test_every_chart_has_its_text_twin_and_the_name_of_its_files(drawn):
    assert {"consensus", "classes", "labels", "entropy", "length", "votes-lost", "shift", "time"} <= set(drawn)
    assert [name for name, chart in drawn.items() if not chart["text"] or not chart["file"]] == []
