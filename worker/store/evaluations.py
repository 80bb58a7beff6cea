"""Evaluations, their scores per problem, and the cache of base scores."""

from __future__ import annotations

import json
from typing import Any

from worker.rows import EvaluationRow, ScoreRow
from worker.store.connection import Connected, now
from worker.store.runs import evaluation_row

_STANDING = """
SELECT evaluations.* FROM evaluations JOIN runs ON runs.id = evaluations.run_id
WHERE run_id = ? AND evaluations.step <= runs.step ORDER BY evaluations.step, split, problem_set
"""


class Evaluations(Connected):
    """The tables `evaluations`, `scores` and `base_scores`."""

    def evaluations(self, run_id: int) -> list[EvaluationRow]:
        """Every evaluation of the run, first step first."""
        found = self.rows("SELECT * FROM evaluations WHERE run_id = ? ORDER BY step, split, problem_set", (run_id,))
        return [evaluation_row(row) for row in found]

    def standing_evaluations(self, run_id: int) -> list[EvaluationRow]:
        """Those that say something of the run as it stands: all but what was measured after the step that it was
        rolled back to."""
        found = self.rows(_STANDING, (run_id,))
        return [evaluation_row(row) for row in found]

    def scores(self, run_id: int, step: int, split: str, problem_set: str) -> list[ScoreRow]:
        """How each problem did in one evaluation."""
        found = self.rows(
            "SELECT problem_id, num_samples, num_correct, maj_answer, maj_correct, num_unparsed, num_truncated,"
            " mean_length FROM scores WHERE run_id = ? AND step = ? AND split = ? AND problem_set = ?"
            " ORDER BY problem_id",
            (run_id, step, split, problem_set),
        )
        return [ScoreRow(**{**dict(row), "maj_correct": bool(row["maj_correct"])}) for row in found]

    def base_score(self, key: str) -> Any | None:
        """A cached evaluation of a base model, as it was put."""
        row = self.row("SELECT value_json FROM base_scores WHERE key = ?", (key,))
        return None if row is None else json.loads(row["value_json"])

    def put_base_score(self, key: str, value: Any) -> None:
        """Remember an evaluation of a base model."""
        with self.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO base_scores (key, value_json, created_at) VALUES (?, ?, ?)",
                (key, json.dumps(value), now()),
            )
