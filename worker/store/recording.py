"""Rows of a running job, written in batches: a whole batch or nothing, and only by the attempt that holds the job."""

from __future__ import annotations

import json
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
        self,
        claim: Claim,
        run_id: int,
        statements: Iterable[Statement],
        running: bool = False,
        durable: bool = False,
        progress: bool = False,
    ) -> None:
        """Apply the statements in one transaction. Raises FencedError.

        `running` says that the model is loaded; `durable` waits until even a power cut could not undo the commit;
        `progress` says that nothing but how far a phase is was written, which is no reason to draw a page anew.
        """
        if durable:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            with self.writing(-run_id if progress else run_id) as connection:
                state = fence(connection, claim)
                if running and state is JobState.STARTING:
                    move(connection, claim.job_id, JobState.RUNNING, "Model and problems are loaded.")
                    bump_scopes(connection, claim.job_id)
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
            # What an earlier attempt had shown is sampled again.
            connection.execute("UPDATE comparisons SET partial_json = NULL WHERE job_id = ?", (claim.job_id,))
            bump_scopes(connection, claim.job_id)

    def record_comparison(
        self,
        claim: Claim,
        run_id: int,
        done: int | None = None,
        total: int | None = None,
        result_json: str | None = None,
        partial_json: str | None = None,
    ) -> None:
        """How far a comparison is, its answers as they grow, or its result. Raises FencedError."""
        with self.writing(-run_id if result_json is None else run_id) as connection:
            fence(connection, claim)
            connection.execute(
                "UPDATE comparisons SET done = COALESCE(:done, done), total = COALESCE(:total, total),"
                " result_json = COALESCE(:result, result_json), partial_json = CASE WHEN :result IS NULL"
                " THEN COALESCE(:partial, partial_json) END WHERE job_id = :job",
                {"done": done, "total": total, "result": result_json, "partial": partial_json, "job": claim.job_id},
            )

    def record_sides(
        self, claim: Claim, comparison_id: int, run_id: int, sides: Sequence[tuple[str, str, dict[str, Any]]]
    ) -> None:
        """Sides of a comparison over a set: (name, problem id, side). Raises FencedError."""
        with self.writing(-run_id) as connection:
            fence(connection, claim)
            for name, problem_id, side in sides:
                lengths = [answer["length"] for answer in side["answers"]]
                connection.execute(
                    "INSERT OR REPLACE INTO comparison_answers (comparison_id, problem_id, side, label, consensus,"
                    " mean_length, num_samples, side_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        comparison_id,
                        problem_id,
                        name,
                        side["label"],
                        side["consensus"],
                        sum(lengths) / len(lengths),
                        len(lengths),
                        json.dumps(side),
                    ),
                )
