"""Jobs: their states, their order, and what people ask of them. Every move of a state goes through `_move`."""

from __future__ import annotations

import sqlite3
from typing import Any

from ttrl_engine.errors import StudioError
from worker.rows import HistoryRow, JobKind, JobRow
from worker.states import ACTIVE, Intent, JobState, can_move
from worker.store.connection import Connected, now

# In the column order of JobRow.
JOB_COLUMNS = """
jobs.id, jobs.kind, jobs.state, jobs.intent, jobs.position, jobs.attempt, jobs.worker, jobs.pid, jobs.pgid, jobs.gpu,
jobs.heartbeat_at, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.outcome, jobs.reason,
jobs.error_kind, jobs.error_message, jobs.error_hint, jobs.error_trace, jobs.resumes, jobs.crashes, jobs.crash_step,
jobs.intent_step
"""
NUM_JOB_COLUMNS = JOB_COLUMNS.count(",") + 1

_SELECT = f"""
SELECT {JOB_COLUMNS}, COALESCE(runs.id, comparisons.id, exports.id, preflights.id),
  COALESCE(runs.name, 'Comparison ' || comparisons.id || ' of run ' || comparisons.run_id,
    'Merged model of run ' || exports.run_id, 'Check of ' || preflights.set_name)
FROM jobs LEFT JOIN runs ON runs.job_id = jobs.id LEFT JOIN comparisons ON comparisons.job_id = jobs.id
LEFT JOIN exports ON exports.job_id = jobs.id LEFT JOIN preflights ON preflights.job_id = jobs.id
"""  # noqa: S608 (our own columns)

# Comparisons, exports and checks are placed before the runs that wait, see `insert_job`.
_ORDER = " ORDER BY jobs.position, jobs.id"
_BY_ID = _SELECT + " WHERE jobs.id = ?"
_QUEUED = _SELECT + " WHERE jobs.state = 'queued'" + _ORDER
_WAITING = "SELECT id, kind FROM jobs WHERE state = 'queued' ORDER BY position, id"
_IN_HAND = _SELECT + " WHERE jobs.state IN ('starting', 'running', 'pausing', 'stopping')" + _ORDER

_OF_AN_ENDING = (
    "error_kind",
    "error_message",
    "error_hint",
    "error_trace",
    "outcome",
    "finished_at",
    "worker",
    "pid",
    "pgid",
    "gpu",
)

_SCOPES = (
    "SELECT id FROM runs WHERE job_id = :job UNION SELECT run_id FROM comparisons WHERE job_id = :job"
    " UNION SELECT run_id FROM exports WHERE job_id = :job"
)


class NoSuchJobError(StudioError):
    """A job was named that does not exist."""


class Jobs(Connected):
    """The tables `jobs`, `job_history` and `flags`."""

    # --- reading -------------------------------------------------------------------------------------------------

    def job(self, job_id: int) -> JobRow:
        """One job. Raises NoSuchJobError."""
        row = self.row(_BY_ID, (job_id,))
        if row is None:
            raise NoSuchJobError(f"There is no job {job_id}. It may have been removed.")
        return job_row(tuple(row))

    def queue(self) -> list[JobRow]:
        """The jobs that wait, in the order in which they will start."""
        return [job_row(tuple(row)) for row in self.rows(_QUEUED)]

    def active_jobs(self) -> list[JobRow]:
        """The jobs that a worker holds."""
        return [job_row(tuple(row)) for row in self.rows(_IN_HAND)]

    def history(self, job_id: int) -> list[HistoryRow]:
        """Every move of the job, oldest first."""
        found = self.rows("SELECT * FROM job_history WHERE job_id = ? ORDER BY id", (job_id,))
        return [
            HistoryRow(
                row["id"],
                row["job_id"],
                row["at"],
                None if row["from_state"] is None else JobState(row["from_state"]),
                JobState(row["to_state"]),
                row["reason"],
            )
            for row in found
        ]

    def queue_held(self) -> bool:
        """Whether the queue is held: what runs goes on, nothing new starts."""
        row = self.row("SELECT value FROM flags WHERE name = 'queue_held'")
        return row is not None and row["value"] == "1"

    # --- what people ask -----------------------------------------------------------------------------------------

    def request_pause(self, job_id: int) -> JobState:
        """Ask the job to save and wait; a queued one leaves the queue at once. Returns the new state.

        Raises StudioError, in plain words, where the job is in no state to be paused.
        """
        with self.writing(*self._scopes(job_id)) as connection:
            state = self._state(connection, job_id)
            if state in (JobState.PAUSING, JobState.PAUSED):
                return state
            if state is JobState.QUEUED:
                after = JobState.PAUSED
            elif state in (JobState.STARTING, JobState.RUNNING):
                after = JobState.PAUSING
            else:
                raise StudioError(f"This job cannot be paused: {_PLAIN[state]}.")
            move(connection, job_id, after, "Paused by a person.", intent=Intent.PAUSE)
            return after

    def request_cancel(self, job_id: int) -> JobState:
        """Ask the job to end; a waiting one ends at once. Asking twice is asking once. Returns the new state."""
        with self.writing(*self._scopes(job_id)) as connection:
            state = self._state(connection, job_id)
            if state in (JobState.STOPPING, JobState.STOPPED):
                return state
            if state in (JobState.QUEUED, JobState.PAUSED):
                after = JobState.STOPPED
            elif state in ACTIVE:
                after = JobState.STOPPING
            else:
                raise StudioError(f"This job cannot be cancelled: {_PLAIN[state]}.")
            fields = {"finished_at": now()} if after is JobState.STOPPED else {}
            move(connection, job_id, after, "Cancelled by a person.", intent=Intent.CANCEL, **fields)
            return after

    def request_resume(self, job_id: int) -> JobState:
        """Put a paused, stopped, failed or lost job at the end of the queue; it goes on from its last checkpoint."""
        return self._queue_again(job_id, Intent.RUN, "Resumed by a person.")

    def request_roll_back(self, job_id: int, step: int | None = None) -> JobState:
        """Queue a paused, stopped, failed or lost run, to end with the weights of its last healthy checkpoint, or of
        the one of `step`."""
        if self.job(job_id).kind != "run":
            raise StudioError("Only a run has checkpoints to go back to.")
        which = "the last healthy checkpoint" if step is None else f"the checkpoint of step {step}"
        return self._queue_again(job_id, Intent.ROLL_BACK, f"A person asked to go back to {which}.", step)

    def _queue_again(self, job_id: int, intent: Intent, reason: str, step: int | None = None) -> JobState:
        with self.writing(*self._scopes(job_id)) as connection:
            state = self._state(connection, job_id)
            if state is JobState.QUEUED:
                queued = self.job(job_id)
                if (queued.intent, queued.intent_step) != (intent, step):
                    raise StudioError("It already waits in the queue for something else. Pause it there first.")
                return state
            if not can_move(state, JobState.QUEUED) or state in ACTIVE:
                raise StudioError(f"This job cannot be resumed: {_PLAIN[state]}.")
            move(
                connection,
                job_id,
                JobState.QUEUED,
                reason,
                intent=intent,
                intent_step=step,
                position=_last_position(connection) + 1.0,
                crashes=0,
                crash_step=-1,
                **dict.fromkeys(_OF_AN_ENDING),
            )
            connection.execute("UPDATE jobs SET resumes = resumes + 1 WHERE id = ?", (job_id,))
            return JobState.QUEUED

    def hold_queue(self, held: bool) -> None:
        """Hold the queue or let it go on."""
        self.set_flag("queue_held", "1" if held else "0")

    def move(self, job_id: int, before: int | None) -> None:
        """Place a waiting job right before another waiting one, or at the end if `before` is None."""
        with self.writing() as connection:
            waiting = [row[0] for row in connection.execute(_WAITING)]
            if job_id not in waiting:
                raise StudioError("This job no longer waits in the queue, so it cannot be moved.")
            waiting.remove(job_id)
            place = waiting.index(before) if before in waiting else len(waiting)
            waiting.insert(place, job_id)
            _number(connection, waiting)

    def move_up(self, job_id: int) -> None:
        """One place towards the start."""
        self._shift(job_id, -1)

    def move_down(self, job_id: int) -> None:
        """One place towards the end."""
        self._shift(job_id, +1)

    def move_first(self, job_id: int) -> None:
        """Next to start."""
        waiting = [job.id for job in self.queue() if job.id != job_id]
        self.move(job_id, waiting[0] if waiting else None)

    # --- flags ---------------------------------------------------------------------------------------------------

    def set_flag(self, name: str, value: str) -> None:
        """Remember a small fact about the installation."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO flags (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    # --- inside --------------------------------------------------------------------------------------------------

    def _shift(self, job_id: int, by: int) -> None:
        waiting = [job.id for job in self.queue()]
        if job_id not in waiting:
            raise StudioError("This job no longer waits in the queue, so it cannot be moved.")
        place = waiting.index(job_id)
        waiting.remove(job_id)
        place = max(0, place + by)
        self.move(job_id, waiting[place] if place < len(waiting) else None)

    def _scopes(self, job_id: int) -> tuple[int, ...]:
        return tuple(row[0] for row in self.rows(_SCOPES, {"job": job_id}))

    @staticmethod
    def _state(connection: sqlite3.Connection, job_id: int) -> JobState:
        row = connection.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise NoSuchJobError(f"There is no job {job_id}. It may have been removed.")
        return JobState(row["state"])


def move(connection: sqlite3.Connection, job_id: int, after: JobState, reason: str, **fields: Any) -> None:
    """The one place where a job changes its state. `fields` are further columns to set.

    Must be inside a transaction. Raises StudioError where the table does not allow the move.
    """
    before = JobState(connection.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()["state"])
    if not can_move(before, after):
        raise StudioError(f"The job cannot become {after}: {_PLAIN[before]}.")
    columns = {"state": after.value, "reason": reason, **fields}
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    connection.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", {**columns, "id": job_id})  # noqa: S608
    record_history(connection, job_id, before, after, reason)


def insert_job(connection: sqlite3.Connection, kind: JobKind) -> int:
    """A new job at the end of the queue; any but a run before the first run that waits: they are short.

    A person sits before the screen and waits for these, nobody for the next of several runs.
    """
    cursor = connection.execute(
        "INSERT INTO jobs (kind, state, position, created_at) VALUES (?, 'queued', ?, ?)",
        (kind, _last_position(connection) + 1.0, now()),
    )
    job_id = int(cursor.lastrowid or 0)
    if kind != "run":
        waiting = connection.execute(_WAITING).fetchall()
        order = [row["id"] for row in waiting if row["id"] != job_id]
        place = next((i for i, row in enumerate(waiting) if row["kind"] == "run"), len(order))
        order.insert(place, job_id)
        _number(connection, order)
    record_history(connection, job_id, None, JobState.QUEUED, "Submitted.")
    return job_id


def record_history(
    connection: sqlite3.Connection, job_id: int, before: JobState | None, after: JobState, reason: str
) -> None:
    """One line of the job's story."""
    connection.execute(
        "INSERT INTO job_history (job_id, at, from_state, to_state, reason) VALUES (?, ?, ?, ?, ?)",
        (job_id, now(), before, after, reason),
    )


def job_row(values: tuple[Any, ...]) -> JobRow:
    """A JobRow from JOB_COLUMNS, the subject's id and the title."""
    job_id, kind, state, intent, *rest = values
    return JobRow(job_id, kind, JobState(state), Intent(intent), *rest)


def _last_position(connection: sqlite3.Connection) -> float:
    return float(connection.execute("SELECT COALESCE(max(position), 0) FROM jobs WHERE state = 'queued'").fetchone()[0])


def _number(connection: sqlite3.Connection, order: list[int]) -> None:
    """Positions 1, 2, 3… in this order: a queue is short, and whole numbers never run out of room between two."""
    connection.executemany(
        "UPDATE jobs SET position = ? WHERE id = ?", [(float(place), job_id) for place, job_id in enumerate(order, 1)]
    )


_PLAIN: dict[JobState, str] = {
    JobState.QUEUED: "it waits in the queue",
    JobState.STARTING: "it is just starting",
    JobState.RUNNING: "it is running",
    JobState.PAUSING: "it is still saving before it pauses",
    JobState.PAUSED: "it is paused",
    JobState.STOPPING: "it is already being stopped",
    JobState.STOPPED: "it was stopped",
    JobState.FINISHED: "it is finished",
    JobState.FAILED: "it has failed",
    JobState.LOST: "it was given up after its worker was lost",
}
