"""The tables of app.db and how they come about."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

from sqlite_utils import Database

from ttrl_engine.config import AnswerConfig
from worker.rows import ScoreRow
from worker.schema import migrate, migrations
from worker.states import Intent, JobState
from worker.store import Store, open_store

_MIGRATE = (
    "import sys; from pathlib import Path; from worker.schema import migrate; input(); migrate(Path(sys.argv[1]))"
)


def test_processes_that_migrate_at_once_do_not_disturb_each_other(tmp_path: Path):
    database = tmp_path / "app.db"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, str(database)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]
    # All have imported what they need and wait for a line: now they start together.
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write(b"\n")
        starter.stdin.flush()
    errors = [starter.communicate()[1].decode() for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0, 0], errors
    tables = {
        row[0] for row in sqlite3.connect(database).execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    assert {"jobs", "runs", "metrics", "elections", "problem_sets", "comparisons"} <= tables


def test_migrating_twice_changes_nothing(tmp_path: Path):
    for _ in range(2):
        migrate(tmp_path / "app.db")
    assert Store(tmp_path).runs() == []


def test_a_run_of_an_older_release_keeps_its_kind_of_answer(tmp_path: Path):
    database = tmp_path / "app.db"
    db = Database(sqlite3.connect(database))
    migrations.apply(db, stop_before="m_answer_rules")
    db.execute("INSERT INTO problem_sets VALUES ('s', 'a set', 'choice', 2, 0, 'test', 0, '{}', 0)")
    for number, task in ((1, '"number"'), (2, "null")):
        db.execute(
            "INSERT INTO jobs (id, kind, state, position, created_at) VALUES (?, 'run', 'finished', 1, 0)", [number]
        )
        db.execute(
            "INSERT INTO runs (id, job_id, client_id, name, config_json, config_digest, set_id, data_hash,"
            " versions_json, seed, model, created_at) VALUES (?, ?, ?, 'old', ?, '', 's', 's', '{}', 3, 'm', 0)",
            [number, number, f"client {number}", f'{{"name": "old", "seed": 3, "task": {task}}}'],
        )
    db.conn.commit()
    db.close()
    migrate(database)
    store = Store(tmp_path)
    assert [run.config.answers.kind for run in store.runs()] == ["choice", "number"]
    assert store.problem_sets()[0].rule == AnswerConfig()


def test_scores_of_an_older_release_know_nothing_of_reading(tmp_path: Path):
    database = tmp_path / "app.db"
    db = Database(sqlite3.connect(database))
    migrations.apply(db, stop_before="m_readability_of_scores")
    db.execute("INSERT INTO scores VALUES (1, 10, 'adapt', 'sums', 'p0', 8, 3, '42', 1)")
    db.conn.commit()
    db.close()
    migrate(database)
    assert Store(tmp_path).scores(1, 10, "adapt", "sums") == [ScoreRow("p0", 8, 3, "42", True, None, None, None)]


def test_a_waiting_roll_back_of_an_older_release_still_goes_to_the_last_healthy_checkpoint(tmp_path: Path):
    database = tmp_path / "app.db"
    db = Database(sqlite3.connect(database))
    migrations.apply(db, stop_before="m_chosen_checkpoint")
    db.execute("INSERT INTO problem_sets VALUES ('s', 'a set', 'number', 2, 0, 'test', 0, '{}', 0, '{}')")
    for number, (state, intent) in enumerate((("queued", "roll_back"), ("paused", "pause")), 1):
        db.execute(
            "INSERT INTO jobs (id, kind, state, intent, position, created_at, crash_step)"
            " VALUES (?, 'run', ?, ?, 1, 0, 4)",
            [number, state, intent],
        )
        db.execute(
            "INSERT INTO runs (id, job_id, client_id, name, config_json, config_digest, set_id, data_hash,"
            " versions_json, seed, model, created_at) VALUES (?, ?, ?, 'old', '{}', '', 's', 's', '{}', 3, 'm', 0)",
            [number, number, f"client {number}"],
        )
    db.conn.commit()
    db.close()
    migrate(database)
    store = Store(tmp_path)
    waiting, paused = store.job(1), store.job(2)
    assert [(job.intent, job.intent_step, job.crash_step, job.title) for job in (waiting, paused)] == [
        (Intent.ROLL_BACK, None, 4, "old"), (Intent.PAUSE, None, 4, "old"),
    ]  # fmt: skip
    store.request_roll_back(2, 3)
    rolled = store.run(2)
    assert rolled is not None
    assert (rolled.job.state, rolled.job.intent_step, rolled.name) == (JobState.QUEUED, 3, "old")


def test_only_the_owner_can_read_what_is_stored(tmp_path: Path):
    data = tmp_path / "data"
    old = os.umask(0o022)
    try:
        open_store(data).set_flag("x", "1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in data.iterdir() if path.is_file()} == {
        path.name: 0 for path in data.iterdir() if path.is_file()
    }


def test_the_database_is_set_up_for_many_readers_and_one_writer(store: Store):
    pragma = {name: store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _WANTED}
    assert pragma == _WANTED


_WANTED = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 10_000}
