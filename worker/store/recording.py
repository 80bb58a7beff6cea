"""Rows of a running job, written in batches: a whole batch or nothing, and only by the attempt that holds the job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from worker.states import JobState
from worker.store.connection import now
from worker.store.holding import Claim, Holding, bump_scopes, fence
from worker.store.jobs import move

Statement: TypeAlias = tuple[str, Sequence[Any]]
"""One write: SQL and its parameters."""


class Recording(Holding):
    """The child's side of the store."""

    def record(
        self, claim: Claim, run_id: int, statements: Iterable[Statement], running: bool = False, durable: bool = False
    ) -> None:
        """Apply the statements in one transaction. Raises FencedError.

        `running` says that the model is loaded; `durable` waits until even a power cut could not undo the commit.
        """
        if durable:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            with self.writing(run_id) as connection:
                state = fence(connection, claim)
                if running and state is JobState.STARTING:
                    move(connection, claim.job_id, JobState.RUNNING, "Model and problems are loaded.")
                for sql, parameters in statements:
                    connection.execute(sql, parameters)
                connection.execute("UPDATE runs SET last_event_at = ? WHERE id = ?", (now(), run_id))
        finally:
            if durable:
                self.connection.execute("PRAGMA synchronous = NORMAL")

    def begin_comparison(self, claim: Claim) -> None:
        """The comparison's process is up. Raises FencedError."""
        with self.writing() as connection:
            if fence(connection, claim) is JobState.STARTING:
                move(connection, claim.job_id, JobState.RUNNING, "Answers are being sampled.")
                bump_scopes(connection, claim.job_id)

    def record_comparison(
        self,
        claim: Claim,
        run_id: int,
        done: int | None = None,
        total: int | None = None,
        result_json: str | None = None,
    ) -> None:
        """How far a comparison is, or its result. Raises FencedError."""
        with self.writing(run_id) as connection:
            fence(connection, claim)
            connection.execute(
                "UPDATE comparisons SET done = COALESCE(?, done), total = COALESCE(?, total),"
                " result_json = COALESCE(?, result_json) WHERE job_id = ?",
                (done, total, result_json, claim.job_id),
            )
