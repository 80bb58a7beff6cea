"""Comparisons of base and adapted answers; each is a job of its own."""

from __future__ import annotations

import sqlite3
from typing import Any

from ttrl_engine.errors import ConfigError
from worker.rows import ComparisonRow
from worker.store.connection import Connected, now
from worker.store.jobs import JOB_COLUMNS, NUM_JOB_COLUMNS, insert_job, job_row

_COLUMNS = """
comparisons.id, comparisons.client_id, comparisons.run_id, comparisons.step, comparisons.prompt, comparisons.problem_id,
comparisons.num_samples, comparisons.temperature, comparisons.max_new_tokens, comparisons.seed, comparisons.done,
comparisons.total, comparisons.result_json, comparisons.created_at
"""

_SELECT = f"SELECT {JOB_COLUMNS}, {_COLUMNS} FROM comparisons JOIN jobs ON jobs.id = comparisons.job_id"  # noqa: S608
_BY_ID = _SELECT + " WHERE comparisons.id = ?"
_BY_JOB = _SELECT + " WHERE comparisons.job_id = ?"
_OF_RUN = _SELECT + " WHERE comparisons.run_id = ? ORDER BY comparisons.id DESC LIMIT ?"

MAX_PROMPT_CHARACTERS = 20_000


class Comparisons(Connected):
    """The table `comparisons`."""

    def submit_comparison(
        self,
        run_id: int,
        prompt: str,
        client_id: str,
        problem_id: str | None = None,
        step: int | None = None,
        num_samples: int = 8,
        temperature: float = 0.6,
        max_new_tokens: int = 512,
        seed: int = 0,
    ) -> int:
        """Ask for base and adapted answers to one prompt; returns the comparison's id. Idempotent by `client_id`.

        `step` None takes the run's final policy. Rows only; `jobs.JobDesk` also rings the doorbell.
        """
        if not prompt.strip():
            raise ConfigError("There is nothing to compare: type a problem or pick one.")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise ConfigError(f"The problem has {len(prompt):,} characters; the most is {MAX_PROMPT_CHARACTERS:,}.")
        if not 1 <= num_samples <= 256 or not 0 < temperature <= 4 or not 1 <= max_new_tokens <= 131_072:
            raise ConfigError("Ask for 1 to 256 answers, at a temperature above 0 and up to 4.")
        with self.writing(run_id) as connection:
            known = connection.execute("SELECT id FROM comparisons WHERE client_id = ?", (client_id,)).fetchone()
            if known is not None:
                return int(known["id"])
            if connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is None:
                raise ConfigError(f"There is no run {run_id} to compare with its base model.")
            cursor = connection.execute(
                "INSERT INTO comparisons (job_id, client_id, run_id, step, prompt, problem_id, num_samples,"
                " temperature, max_new_tokens, seed, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    insert_job(connection, "compare"),
                    client_id,
                    run_id,
                    step,
                    prompt,
                    problem_id,
                    num_samples,
                    temperature,
                    max_new_tokens,
                    seed,
                    now(),
                ),
            )
            return int(cursor.lastrowid or 0)

    def comparison(self, comparison_id: int) -> ComparisonRow | None:
        """One comparison with its job."""
        row = self.row(_BY_ID, (comparison_id,))
        return None if row is None else _comparison_row(row)

    def comparison_of_job(self, job_id: int) -> ComparisonRow | None:
        """The comparison that a job computes; None for a run."""
        row = self.row(_BY_JOB, (job_id,))
        return None if row is None else _comparison_row(row)

    def comparisons(self, run_id: int, limit: int = 50) -> list[ComparisonRow]:
        """The comparisons of a run, newest first."""
        return [_comparison_row(row) for row in self.rows(_OF_RUN, (run_id, limit))]


def _comparison_row(row: sqlite3.Row) -> ComparisonRow:
    values = tuple(row)
    names = list(row.keys())[NUM_JOB_COLUMNS:]
    own: dict[str, Any] = dict(zip(names, values[NUM_JOB_COLUMNS:], strict=True))
    title = f"Comparison {own['id']} of run {own['run_id']}"
    return ComparisonRow(**own, job=job_row((*values[:NUM_JOB_COLUMNS], own["id"], title)))
