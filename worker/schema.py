"""The tables of app.db. Migrations are never edited once released; their names, not their order, are their identity."""

from __future__ import annotations

import fcntl
import json
import re
import sqlite3
from pathlib import Path

from sqlite_utils import Database, Migrations

migrations = Migrations("ttrl_studio")

_PROBLEM_SETS = """
CREATE TABLE problem_sets (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, num_problems INTEGER NOT NULL,
  num_references INTEGER NOT NULL, source TEXT NOT NULL, created_at REAL NOT NULL,
  notes_json TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE problems (
  set_id TEXT NOT NULL REFERENCES problem_sets(id) ON DELETE CASCADE, idx INTEGER NOT NULL, problem_id TEXT NOT NULL,
  prompt TEXT NOT NULL, reference TEXT, choices_json TEXT NOT NULL, PRIMARY KEY (set_id, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX problems_by_id ON problems (set_id, problem_id);
"""

# `crashes` counts the ends of the process that nobody asked for since the last new step, and `crash_step` remembers
# that step. `outcome` is the last word of the process.
_JOBS = """
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('run', 'compare')),
  state TEXT NOT NULL, intent TEXT NOT NULL DEFAULT 'run', position REAL NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0, worker TEXT, pid INTEGER, pgid INTEGER, gpu TEXT, heartbeat_at REAL,
  created_at REAL NOT NULL, started_at REAL, finished_at REAL, outcome TEXT, reason TEXT,
  error_kind TEXT, error_message TEXT, error_hint TEXT, error_trace TEXT,
  resumes INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, crash_step INTEGER NOT NULL DEFAULT -1
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, position);
CREATE TABLE job_history (
  id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, at REAL NOT NULL,
  from_state TEXT, to_state TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX job_history_by_job ON job_history (job_id, id);
"""

_RUNS = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL UNIQUE REFERENCES jobs(id), client_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, config_json TEXT NOT NULL, config_digest TEXT NOT NULL,
  set_id TEXT NOT NULL REFERENCES problem_sets(id), data_hash TEXT NOT NULL, versions_json TEXT NOT NULL,
  seed INTEGER NOT NULL, parent_run_id INTEGER REFERENCES runs(id), model TEXT NOT NULL, created_at REAL NOT NULL,
  num_parameters INTEGER, num_trainable INTEGER, num_adapt INTEGER, num_held_out INTEGER,
  sampler TEXT, device TEXT, threads INTEGER,
  step INTEGER NOT NULL DEFAULT 0, total_steps INTEGER, phase TEXT, phase_step INTEGER, phase_done INTEGER,
  phase_total INTEGER, eta_low_s REAL, eta_high_s REAL, last_event_at REAL, policy_path TEXT,
  archived INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX runs_by_archived ON runs (archived, id);
CREATE TABLE alarms (
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL,
  alarm TEXT NOT NULL, message TEXT NOT NULL, value REAL, threshold REAL, action TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX alarms_by_run ON alarms (run_id, step);
CREATE TABLE notes (
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL,
  level TEXT NOT NULL, message TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX notes_by_run ON notes (run_id, step);
CREATE TABLE checkpoints (
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL, path TEXT NOT NULL,
  at REAL NOT NULL, PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;
"""

# elections_by_problem covers what the overview of a run's problems reads, so that 500 problems × 150 steps are one
# scan of narrow index rows and not of the wide `classes_json`.
_MEASUREMENTS = """
CREATE TABLE metrics (
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
  PRIMARY KEY (run_id, name, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE elections (
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL, problem_id TEXT NOT NULL,
  label TEXT, abstained TEXT, consensus REAL NOT NULL, margin REAL NOT NULL, num_rollouts INTEGER NOT NULL,
  num_classes INTEGER NOT NULL, num_unparsed INTEGER NOT NULL, num_truncated INTEGER NOT NULL,
  classes_json TEXT NOT NULL, reward_mean REAL, label_correct INTEGER, reward_accuracy REAL, truth_share REAL,
  PRIMARY KEY (run_id, step, problem_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX elections_by_problem ON elections (run_id, problem_id, step, label, consensus, margin, label_correct);
CREATE TABLE evaluations (
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL, split TEXT NOT NULL,
  problem_set TEXT NOT NULL, num_problems INTEGER NOT NULL, num_samples INTEGER NOT NULL,
  avg REAL, avg_low REAL, avg_high REAL, maj REAL, maj_low REAL, maj_high REAL, pass_k REAL,
  gain REAL, gain_low REAL, gain_high REAL, mean_length REAL, truncated REAL, from_cache INTEGER NOT NULL,
  PRIMARY KEY (run_id, step, split, problem_set)
) STRICT, WITHOUT ROWID;
CREATE TABLE scores (
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, step INTEGER NOT NULL, split TEXT NOT NULL,
  problem_set TEXT NOT NULL, problem_id TEXT NOT NULL, num_samples INTEGER NOT NULL, num_correct INTEGER NOT NULL,
  maj_answer TEXT, maj_correct INTEGER NOT NULL, PRIMARY KEY (run_id, step, split, problem_set, problem_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE base_scores (key TEXT PRIMARY KEY, value_json TEXT NOT NULL, created_at REAL NOT NULL) STRICT;
"""

# `changes` counts the writes per run (scope = run id) and overall (scope 0): the token that pages watch.
_REST = """
CREATE TABLE comparisons (
  id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL UNIQUE REFERENCES jobs(id), client_id TEXT NOT NULL UNIQUE,
  run_id INTEGER NOT NULL REFERENCES runs(id), step INTEGER, prompt TEXT NOT NULL, problem_id TEXT,
  num_samples INTEGER NOT NULL, temperature REAL NOT NULL, max_new_tokens INTEGER NOT NULL, seed INTEGER NOT NULL,
  done INTEGER, total INTEGER, result_json TEXT, created_at REAL NOT NULL
) STRICT;
CREATE INDEX comparisons_by_run ON comparisons (run_id, id);
CREATE TABLE settings (key TEXT PRIMARY KEY, value_json TEXT NOT NULL) STRICT;
CREATE TABLE flags (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE changes (scope INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
"""


@migrations()
def m001_first_tables(db: Database) -> None:
    """Everything the first release stores."""
    for part in (_PROBLEM_SETS, _JOBS, _RUNS, _MEASUREMENTS, _REST):
        # Not executescript: it would commit the transaction that makes the migration all or nothing.
        for statement in part.split(";"):
            if statement.strip():
                db.execute(statement)


_EXPORTS_AND_DELIVERIES = """
CREATE TABLE exports (
  id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL UNIQUE REFERENCES jobs(id), client_id TEXT NOT NULL UNIQUE,
  run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, phase TEXT, done INTEGER, total INTEGER,
  created_at REAL NOT NULL
) STRICT;
CREATE INDEX exports_by_run ON exports (run_id, id);
CREATE TABLE deliveries (
  id INTEGER PRIMARY KEY, webhook_id TEXT NOT NULL, run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
  event TEXT NOT NULL, key TEXT NOT NULL, message_json TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL, error TEXT, created_at REAL NOT NULL, sent_at REAL,
  UNIQUE (webhook_id, key)
) STRICT;
CREATE INDEX deliveries_by_state ON deliveries (state, next_at)
"""


@migrations()
def m_exports_and_deliveries(db: Database) -> None:
    """Merged models as jobs of their own, and the messages that webhooks are to be sent."""
    _allow_job_kind(db, "export")
    for statement in _EXPORTS_AND_DELIVERIES.split(";"):
        db.execute(statement)


def _allow_job_kind(db: Database, kind: str) -> None:
    """Let `jobs.kind` take one more value.

    SQLite cannot change a CHECK, so the table is built again (https://sqlite.org/lang_altertable.html, section 7).
    This connection enforces no foreign keys, hence nothing that refers to a job goes with the old table.
    """
    [made] = db.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'jobs'").fetchone()
    known = re.search(r"CHECK \(kind IN \(([^)]*)\)\)", made)
    assert known is not None
    wider = made.replace(known[0], f"CHECK (kind IN ({known[1]}, '{kind}'))", 1)
    db.execute(re.sub(r"^CREATE TABLE \W?jobs\W", "CREATE TABLE wider_jobs ", wider, count=1))
    db.execute("INSERT INTO wider_jobs SELECT * FROM jobs")
    db.execute("DROP TABLE jobs")
    db.execute("ALTER TABLE wider_jobs RENAME TO jobs")
    db.execute("CREATE INDEX jobs_by_state ON jobs (state, position)")


@migrations()
def m_answer_rules(db: Database) -> None:
    """What a person saved about the answers of a problem set, and every run with the kind of answer it was run with."""
    db.execute("ALTER TABLE problem_sets ADD COLUMN rule_json TEXT NOT NULL DEFAULT '{}'")
    runs = db.execute(
        "SELECT runs.id, runs.config_json, problem_sets.kind FROM runs"
        " JOIN problem_sets ON problem_sets.id = runs.set_id"
    ).fetchall()
    for run_id, config_json, kind in runs:
        config = json.loads(config_json)
        config["answers"] = {"kind": config.pop("task", None) or kind, **config.get("answers", {})}
        db.execute("UPDATE runs SET config_json = ? WHERE id = ?", (json.dumps(config), run_id))


@migrations()
def m_readability_of_scores(db: Database) -> None:
    """What a gain is taken apart by: samples without a readable answer, samples cut, mean length in tokens."""
    for column in ("num_unparsed INTEGER", "num_truncated INTEGER", "mean_length REAL"):
        db.execute(f"ALTER TABLE scores ADD COLUMN {column}")


_SPOT_CHECKS = """
CREATE TABLE spot_checks (
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, seed INTEGER NOT NULL,
  step INTEGER NOT NULL, num_eligible INTEGER NOT NULL, problems_json TEXT NOT NULL, created_at REAL NOT NULL
) STRICT;
CREATE INDEX spot_checks_by_run ON spot_checks (run_id, id);
CREATE TABLE spot_verdicts (
  id INTEGER PRIMARY KEY, check_id INTEGER NOT NULL REFERENCES spot_checks(id) ON DELETE CASCADE,
  problem_id TEXT NOT NULL, step INTEGER NOT NULL,
  said TEXT NOT NULL CHECK (said IN ('answer', 'right', 'wrong', 'skip')), text TEXT, at REAL NOT NULL
) STRICT;
CREATE INDEX spot_verdicts_by_check ON spot_verdicts (check_id, id)
"""


@migrations()
def m_spot_checks(db: Database) -> None:
    """Labels that a person checked."""
    for statement in _SPOT_CHECKS.split(";"):
        db.execute(statement)


_PREFLIGHTS = """
CREATE TABLE preflights (
  id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL UNIQUE REFERENCES jobs(id), key TEXT NOT NULL, set_id TEXT NOT NULL,
  set_name TEXT NOT NULL, config_json TEXT NOT NULL, done INTEGER, total INTEGER, result_json TEXT,
  created_at REAL NOT NULL
) STRICT;
CREATE INDEX preflights_by_key ON preflights (key, id)
"""


@migrations()
def m_preflights(db: Database) -> None:
    """Looks at how a model votes before it is trained."""
    _allow_job_kind(db, "preflight")
    for statement in _PREFLIGHTS.split(";"):
        db.execute(statement)


_WHOLE_SETS = """
ALTER TABLE comparisons ADD COLUMN partial_json TEXT;
ALTER TABLE comparisons ADD COLUMN set_id TEXT REFERENCES problem_sets(id);
ALTER TABLE comparisons ADD COLUMN problem_ids_json TEXT;
CREATE TABLE comparison_answers (
  comparison_id INTEGER NOT NULL REFERENCES comparisons(id) ON DELETE CASCADE, problem_id TEXT NOT NULL,
  side TEXT NOT NULL CHECK (side IN ('base', 'adapted')), label TEXT, consensus REAL NOT NULL,
  mean_length REAL NOT NULL, num_samples INTEGER NOT NULL, side_json TEXT NOT NULL,
  PRIMARY KEY (comparison_id, problem_id, side)
) STRICT;
CREATE TABLE blind_sessions (
  id INTEGER PRIMARY KEY, comparison_id INTEGER NOT NULL UNIQUE REFERENCES comparisons(id), seed INTEGER NOT NULL,
  created_at REAL NOT NULL, ended_at REAL
) STRICT;
CREATE TABLE blind_votes (
  id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL REFERENCES blind_sessions(id) ON DELETE CASCADE,
  problem_id TEXT NOT NULL, said TEXT NOT NULL CHECK (said IN ('left', 'right', 'tie', 'both_bad')), at REAL NOT NULL,
  UNIQUE (session_id, problem_id)
) STRICT
"""


@migrations()
def m_whole_set_comparisons(db: Database) -> None:
    """Answers shown while they grow, comparisons over a whole set, and blind votes on them."""
    for statement in _WHOLE_SETS.split(";"):
        db.execute(statement)


@migrations()
def m_chosen_checkpoint(db: Database) -> None:
    """The step of the checkpoint that a person rolls back to."""
    db.execute("ALTER TABLE jobs ADD COLUMN intent_step INTEGER")


def migrate(database: Path) -> None:
    """Bring `database` up to date; safe to call from any number of processes at once.

    Two processes that migrate together fail with "database is locked" or "table already exists", hence the file lock.
    """
    lock = database.with_suffix(".migrate.lock")
    with lock.open("a") as held:
        lock.chmod(0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        database.touch(mode=0o600)
        db = Database(sqlite3.connect(database, timeout=10.0))
        try:
            db.enable_wal()
            migrations.apply(db)
        finally:
            db.close()
