"""Checks of how a model votes before it is trained; each is a job of its own."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import DataError
from ttrl_engine.preflight import Findings, check_key
from worker.rows import PreflightRow
from worker.states import JobState
from worker.store.connection import now
from worker.store.holding import Claim, Holding, fence
from worker.store.jobs import JOB_COLUMNS, NUM_JOB_COLUMNS, insert_job, job_row, move
from worker.store.problem_sets import ProblemSets

_COLUMNS = """
preflights.id, preflights.key, preflights.set_id, preflights.set_name, preflights.config_json, preflights.done,
preflights.total, preflights.result_json, preflights.created_at
"""
_SELECT = f"SELECT {JOB_COLUMNS}, {_COLUMNS} FROM preflights JOIN jobs ON jobs.id = preflights.job_id"  # noqa: S608
_BY_ID = _SELECT + " WHERE preflights.id = ?"
_NEWEST = _SELECT + " WHERE preflights.key = ? ORDER BY preflights.id DESC LIMIT 1"
# Those that need not be asked for again: there, or on the way.
_GOOD = """
SELECT preflights.id FROM preflights JOIN jobs ON jobs.id = preflights.job_id WHERE preflights.key = ?
AND (jobs.state IN ('queued', 'starting', 'running') OR preflights.result_json IS NOT NULL) LIMIT 1
"""


class Preflights(ProblemSets, Holding):
    """The table `preflights`."""

    def submit_preflight(self, config: RunConfig, set_id: str) -> int:
        """Ask for a check of a run of `config`; returns its id. One that is there or under way is not asked for twice.

        Rows only; `jobs.JobDesk` also rings the doorbell. Raises DataError or ModelError.
        """
        found = self.problem_set(set_id)
        if found is None:
            raise DataError(f"There is no problem set {set_id!r}. It may have been removed; upload it again.")
        config = config.model_copy(update={"answers": config.answers.over(found.answers)})
        key = check_key(config, set_id)
        with self.writing() as connection:
            known = connection.execute(_GOOD, (key,)).fetchone()
            if known is not None:
                return int(known["id"])
            cursor = connection.execute(
                "INSERT INTO preflights (job_id, key, set_id, set_name, config_json, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (insert_job(connection, "preflight"), key, set_id, found.name, config.model_dump_json(), now()),
            )
            return int(cursor.lastrowid or 0)

    def preflight(self, preflight_id: int) -> PreflightRow | None:
        """One check with its job."""
        row = self.row(_BY_ID, (preflight_id,))
        return None if row is None else _preflight_row(row)

    def preflight_of(self, config: RunConfig, set_id: str) -> PreflightRow | None:
        """The newest check of such a run; None if there was none. Raises ModelError for an unknown source."""
        found = self.problem_set(set_id)
        if found is None:
            return None
        config = config.model_copy(update={"answers": config.answers.over(found.answers)})
        row = self.row(_NEWEST, (check_key(config, set_id),))
        return None if row is None else _preflight_row(row)

    def record_preflight(self, claim: Claim, done: int, total: int, findings: Findings | None = None) -> None:
        """How far the check is, and what it found. Raises FencedError."""
        with self.writing() as connection:
            if fence(connection, claim) is JobState.STARTING:
                move(connection, claim.job_id, JobState.RUNNING, "The model is being asked.")
            result = None if findings is None else json.dumps(findings.as_dict())
            connection.execute(
                "UPDATE preflights SET done = ?, total = ?, result_json = ? WHERE job_id = ?",
                (done, total, result, claim.job_id),
            )


def _preflight_row(row: sqlite3.Row) -> PreflightRow:
    values = tuple(row)
    names = list(row.keys())[NUM_JOB_COLUMNS:]
    own: dict[str, Any] = dict(zip(names, values[NUM_JOB_COLUMNS:], strict=True))
    title = f"Check of {own['set_name']}"
    return PreflightRow(**own, job=job_row((*values[:NUM_JOB_COLUMNS], own["id"], title)))
