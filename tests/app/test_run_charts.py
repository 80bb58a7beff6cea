"""The charts of a run: what is marked on them and which lines are there to beat."""

from __future__ import annotations

import json

import pytest

from app.pages.run import PARTS, Seen, refreshed
from app.pages.run_charts import event_marks
from app.services import Services
from worker.rows import AlarmRow, CheckpointRow, NoteRow
from worker.settings import Settings


@pytest.fixture(scope="module")
def drawn(studio):
    services = Services.open(Settings(data_dir=studio.store.data_dir))
    values = refreshed(services, Seen(studio.runs["finished"]), force=True)
    parts = dict(zip(("seen", "timer", *PARTS), values, strict=True))
    return {chart["id"]: chart for name in ("charts", "details") for chart in json.loads(parts[name])["charts"]}


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
