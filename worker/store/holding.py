"""What a worker does to the job it holds: claim it, give signs of life, hear what is asked, let it go.

Every write names the attempt. A worker that was given up for lost and comes back finds that its writes are refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from worker.failures import Failure
from worker.rows import JobRow
from worker.settlement import Verdict
from worker.states import TERMINAL, Intent, JobState, Outcome
from worker.store.connection import now
from worker.store.jobs import Jobs, record_history
from worker.store.jobs import move as move_state

_ACTIVE = "('starting', 'running', 'pausing', 'stopping')"

# The head of the queue, in one statement: two workers can never both change the row from `queued`.
_CLAIM = """
UPDATE jobs SET state = 'starting', worker = :worker, gpu = :gpu, attempt = attempt + 1, heartbeat_at = :now,
  started_at = COALESCE(started_at, :now), finished_at = NULL, outcome = NULL, reason = NULL, pid = NULL, pgid = NULL,
  error_kind = NULL, error_message = NULL, error_hint = NULL, error_trace = NULL
WHERE state = 'queued' AND id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY position, id LIMIT 1)
  AND NOT EXISTS (SELECT 1 FROM flags WHERE name = 'queue_held' AND value = '1')
RETURNING id, attempt
"""

_BEAT = f"""
UPDATE jobs SET heartbeat_at = ? WHERE id = ? AND attempt = ? AND state IN {_ACTIVE} RETURNING intent
"""  # noqa: S608 (our own list of states)

_LISTEN = f"SELECT intent FROM jobs WHERE id = ? AND attempt = ? AND state IN {_ACTIVE}"  # noqa: S608

_FENCE = f"SELECT state FROM jobs WHERE id = ? AND attempt = ? AND state IN {_ACTIVE}"  # noqa: S608


class Claim(NamedTuple):
    """A job that this worker now holds, and the number that fences its writes."""

    job_id: int
    attempt: int


class FencedError(Exception):
    """The job is no longer held by this attempt: whatever is to be written comes too late."""


class Holding(Jobs):
    """The worker's side of the table `jobs`."""

    def claim_next(self, worker: str, gpu: str | None = None) -> Claim | None:
        """Take the head of the queue; None if nothing waits or the queue is held."""
        if not self.queue():
            return None
        with self.writing() as connection:
            row = connection.execute(_CLAIM, {"worker": worker, "gpu": gpu, "now": now()}).fetchone()
            if row is None:
                return None
            reason = f"Claimed by a worker, attempt {row['attempt']}."
            record_history(connection, row["id"], JobState.QUEUED, JobState.STARTING, reason)
            bump_scopes(connection, row["id"])
            return Claim(row["id"], row["attempt"])

    def note_process(self, claim: Claim, pid: int) -> None:
        """Remember the process, which leads a group of its own. Raises FencedError."""
        with self.writing() as connection:
            fence(connection, claim)
            connection.execute("UPDATE jobs SET pid = ?, pgid = ? WHERE id = ?", (pid, pid, claim.job_id))

    def beat(self, claim: Claim) -> Intent | None:
        """A sign of life; returns what the person wants, or None if the job is no longer ours."""
        row = self.connection.execute(_BEAT, (now(), *claim)).fetchone()
        return None if row is None else Intent(row["intent"])

    def listen(self, claim: Claim) -> Intent | None:
        """What the person wants, without a sign of life; None if the job is no longer ours."""
        row = self.row(_LISTEN, claim)
        return None if row is None else Intent(row["intent"])

    def say_outcome(
        self, claim: Claim, outcome: Outcome, reason: str | None = None, failure: Failure | None = None, trace: str = ""
    ) -> None:
        """The last word of the process: how it ended. The worker makes a state of it. Raises FencedError."""
        found = (None, None, None) if failure is None else (failure.kind, failure.message, failure.hint)
        with self.writing() as connection:
            fence(connection, claim)
            connection.execute(
                "UPDATE jobs SET outcome = ?, reason = COALESCE(?, reason), error_kind = ?, error_message = ?,"
                " error_hint = ?, error_trace = ? WHERE id = ?",
                (outcome, reason, *found, trace or None, claim.job_id),
            )

    def let_go(self, claim: Claim, decide: Callable[[JobRow, int], Verdict]) -> JobState | None:
        """Move the job to where it goes now that its process is gone; None if it was no longer ours.

        `decide` gets the job and the last step of its run as they are inside the transaction, so that a cancel which
        comes at this very moment is either seen or comes after.
        """
        with self.writing() as connection:
            try:
                fence(connection, claim)
            except FencedError:
                return None
            step = self.last_step(claim.job_id)
            verdict = decide(self.job(claim.job_id), step)
            self._write_verdict(connection, claim.job_id, verdict, step)
            bump_scopes(connection, claim.job_id)
            return verdict.state

    def reclaimable(self, me: str, stale_s: float) -> list[JobRow]:
        """Active jobs of another worker (there is one per data folder, so that one is dead), or silent for too long."""
        return [
            job
            for job in self.active_jobs()
            if job.worker != me or job.heartbeat_at is None or now() - job.heartbeat_at > stale_s
        ]

    def last_step(self, job_id: int) -> int:
        """The last finished step of the job's run; 0 for a comparison."""
        row = self.row("SELECT step FROM runs WHERE job_id = ?", (job_id,))
        return 0 if row is None else int(row["step"])

    @staticmethod
    def _write_verdict(connection: sqlite3.Connection, job_id: int, verdict: Verdict, step: int) -> None:
        fields: dict[str, object] = {"pid": None, "pgid": None, "heartbeat_at": None}
        if verdict.state in TERMINAL:
            fields["finished_at"] = now()
        if verdict.failure is not None:
            found = verdict.failure
            fields |= {"error_kind": found.kind, "error_message": found.message, "error_hint": found.hint}
        if verdict.crashes is not None:
            fields |= {"crashes": verdict.crashes, "crash_step": step}
        if verdict.state is JobState.QUEUED:
            # It was first, it stays first.
            head = connection.execute("SELECT COALESCE(min(position), 1) FROM jobs WHERE state = 'queued'").fetchone()[
                0
            ]
            fields["position"] = head - 1.0
        move_state(connection, job_id, verdict.state, verdict.reason, **fields)
        connection.execute(
            "UPDATE runs SET phase = NULL, phase_step = NULL, phase_done = NULL, phase_total = NULL, eta_low_s = NULL,"
            " eta_high_s = NULL WHERE job_id = ?",
            (job_id,),
        )


def fence(connection: sqlite3.Connection, claim: Claim) -> JobState:
    """Inside a transaction: the job's state if this attempt still holds it. Raises FencedError if not."""
    row = connection.execute(_FENCE, claim).fetchone()
    if row is None:
        raise FencedError(f"Job {claim.job_id} is no longer held by attempt {claim.attempt}.")
    return JobState(row["state"])


def bump_scopes(connection: sqlite3.Connection, job_id: int) -> None:
    """Inside a transaction: mark the job's run, or the run it compares or exports, as changed."""
    connection.execute(
        "INSERT INTO changes (scope, count)"
        " SELECT id, 1 FROM (SELECT id FROM runs WHERE job_id = :job UNION"
        " SELECT run_id FROM comparisons WHERE job_id = :job UNION"
        " SELECT run_id FROM exports WHERE job_id = :job) WHERE true"
        " ON CONFLICT (scope) DO UPDATE SET count = count + 1",
        {"job": job_id},
    )
