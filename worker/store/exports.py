"""Merged models that were asked for; each is a job of its own."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ttrl_engine.config import parse_config
from ttrl_engine.errors import ConfigError
from worker.rows import ExportRow
from worker.states import JobState
from worker.store.connection import now
from worker.store.holding import Claim, Holding, bump_scopes, fence
from worker.store.jobs import JOB_COLUMNS, NUM_JOB_COLUMNS, insert_job, job_row, move

_COLUMNS = """
exports.id, exports.client_id, exports.run_id, exports.phase, exports.done, exports.total, exports.created_at
"""
_SELECT = f"SELECT {JOB_COLUMNS}, {_COLUMNS} FROM exports JOIN jobs ON jobs.id = exports.job_id"  # noqa: S608
_BY_ID = _SELECT + " WHERE exports.id = ?"
_NEWEST = _SELECT + " WHERE exports.run_id = ? ORDER BY exports.id DESC LIMIT 1"
_UNDER_WAY = """
SELECT exports.id FROM exports JOIN jobs ON jobs.id = exports.job_id
WHERE exports.run_id = ? AND jobs.state IN ('queued', 'starting', 'running') LIMIT 1
"""


class Exports(Holding):
    """The table `exports`."""

    def submit_export(self, run_id: int, client_id: str) -> int:
        """Ask for the merged model of a run; returns the export's id. One that is under way is not asked for twice.

        Rows only; `jobs.JobDesk` also rings the doorbell. Raises ConfigError where there is nothing to merge.
        """
        with self.writing(run_id) as connection:
            run = connection.execute("SELECT config_json, policy_path FROM runs WHERE id = ?", (run_id,)).fetchone()
            if run is None:
                raise ConfigError(f"There is no run {run_id} to export.")
            if parse_config(json.loads(run["config_json"])).model.method != "lora":
                raise ConfigError("This run trained all weights, so they are a whole model already: download them.")
            if run["policy_path"] is None:
                raise ConfigError("This run has no trained weights yet. They are written when it ends in good order.")
            known = connection.execute("SELECT id FROM exports WHERE client_id = ?", (client_id,)).fetchone()
            known = known or connection.execute(_UNDER_WAY, (run_id,)).fetchone()
            if known is not None:
                return int(known["id"])
            cursor = connection.execute(
                "INSERT INTO exports (job_id, client_id, run_id, created_at) VALUES (?, ?, ?, ?)",
                (insert_job(connection, "export"), client_id, run_id, now()),
            )
            return int(cursor.lastrowid or 0)

    def export(self, export_id: int) -> ExportRow | None:
        """One export with its job."""
        row = self.row(_BY_ID, (export_id,))
        return None if row is None else _export_row(row)

    def newest_export(self, run_id: int) -> ExportRow | None:
        """The last one that was asked for of a run."""
        row = self.row(_NEWEST, (run_id,))
        return None if row is None else _export_row(row)

    def record_export(self, claim: Claim, phase: str, done: int, total: int) -> None:
        """How far the work is. Raises FencedError."""
        with self.writing() as connection:
            if fence(connection, claim) is JobState.STARTING:
                move(connection, claim.job_id, JobState.RUNNING, "The adapter is being merged.")
            connection.execute(
                "UPDATE exports SET phase = ?, done = ?, total = ? WHERE job_id = ?", (phase, done, total, claim.job_id)
            )
            bump_scopes(connection, claim.job_id)


def _export_row(row: sqlite3.Row) -> ExportRow:
    values = tuple(row)
    names = list(row.keys())[NUM_JOB_COLUMNS:]
    own: dict[str, Any] = dict(zip(names, values[NUM_JOB_COLUMNS:], strict=True))
    title = f"Merged model of run {own['run_id']}"
    return ExportRow(**own, job=job_row((*values[:NUM_JOB_COLUMNS], own["id"], title)))
