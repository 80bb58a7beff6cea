"""Comparisons of base and adapted answers, to one prompt or over a set; each is a job of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import ConfigError
from worker.rows import ComparisonRow, RunRow, SideRow
from worker.store.connection import Connected, now
from worker.store.jobs import JOB_COLUMNS, NUM_JOB_COLUMNS, insert_job, job_row

_COLUMNS = """
comparisons.id, comparisons.client_id, comparisons.run_id, comparisons.step, comparisons.prompt, comparisons.problem_id,
comparisons.num_samples, comparisons.temperature, comparisons.max_new_tokens, comparisons.seed, comparisons.done,
comparisons.total, comparisons.result_json, comparisons.created_at, comparisons.partial_json, comparisons.set_id,
comparisons.problem_ids_json
"""

_SELECT = f"SELECT {JOB_COLUMNS}, {_COLUMNS} FROM comparisons JOIN jobs ON jobs.id = comparisons.job_id"  # noqa: S608
_BY_ID = _SELECT + " WHERE comparisons.id = ?"
_BY_JOB = _SELECT + " WHERE comparisons.job_id = ?"
_OF_RUN = _SELECT + " WHERE comparisons.run_id = ? AND comparisons.set_id IS NULL ORDER BY comparisons.id DESC LIMIT ?"
_OF_SETS = f"""
{_SELECT} WHERE comparisons.run_id = ? AND comparisons.set_id IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM blind_sessions WHERE comparison_id = comparisons.id AND ended_at IS NULL)
ORDER BY comparisons.id DESC LIMIT ?
"""  # noqa: S608 (our own columns)

MAX_PROMPT_CHARACTERS = 20_000
MAX_PROBLEMS = 2000
"""Most problems of one comparison over a set."""


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
        values = (step, prompt, problem_id, num_samples, temperature, max_new_tokens, seed)
        return self._submit(run_id, client_id, values, None, None)

    def submit_set_comparison(
        self,
        run_id: int,
        set_id: str,
        problem_ids: Sequence[str],
        client_id: str,
        step: int | None = None,
        num_samples: int = 4,
        temperature: float = 0.6,
        max_new_tokens: int = 512,
        seed: int = 0,
        blind_seed: int | None = None,
    ) -> int:
        """Ask for base and adapted answers to these problems of a set; the rest as for `submit_comparison`.

        With `blind_seed` a blind session on the answers begins with it, so that no name is shown in between.
        """
        if not problem_ids:
            raise ConfigError("There is nothing to compare: this set has no problems.")
        if len(problem_ids) > MAX_PROBLEMS:
            raise ConfigError(f"Ask about {MAX_PROBLEMS:,} problems at most; these are {len(problem_ids):,}.")
        values = (step, "", None, num_samples, temperature, max_new_tokens, seed)
        return self._submit(run_id, client_id, values, set_id, json.dumps(list(problem_ids)), blind_seed)

    def _submit(
        self,
        run_id: int,
        client_id: str,
        values: tuple[Any, ...],
        set_id: str | None,
        problem_ids_json: str | None,
        blind_seed: int | None = None,
    ) -> int:
        _step, _prompt, _problem_id, num_samples, temperature, max_new_tokens, _seed = values
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
                " temperature, max_new_tokens, seed, set_id, problem_ids_json, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (insert_job(connection, "compare"), client_id, run_id, *values, set_id, problem_ids_json, now()),
            )
            comparison_id = int(cursor.lastrowid or 0)
            if blind_seed is not None:
                connection.execute(
                    "INSERT INTO blind_sessions (comparison_id, seed, created_at) VALUES (?, ?, ?)",
                    (comparison_id, blind_seed, now()),
                )
            return comparison_id

    def comparison(self, comparison_id: int) -> ComparisonRow | None:
        """One comparison with its job."""
        row = self.row(_BY_ID, (comparison_id,))
        return None if row is None else _comparison_row(row)

    def comparison_of_job(self, job_id: int) -> ComparisonRow | None:
        """The comparison that a job computes; None for a run."""
        row = self.row(_BY_JOB, (job_id,))
        return None if row is None else _comparison_row(row)

    def comparisons(self, run_id: int, limit: int = 50) -> list[ComparisonRow]:
        """The comparisons of a run on single prompts, newest first."""
        return [_comparison_row(row) for row in self.rows(_OF_RUN, (run_id, limit))]

    def set_comparisons(self, run_id: int, limit: int = 20) -> list[ComparisonRow]:
        """The newest comparisons of a run over sets, newest first, without those that are still judged blindly."""
        return [_comparison_row(row) for row in self.rows(_OF_SETS, (run_id, limit))]

    def compared_sides(self, comparison_id: int) -> list[SideRow]:
        """How the problems of a comparison over a set were answered, as far as they have been."""
        found = self.rows(
            "SELECT problem_id, side, label, consensus, mean_length, num_samples FROM comparison_answers"
            " WHERE comparison_id = ? ORDER BY rowid",
            (comparison_id,),
        )
        return [SideRow(**dict(row)) for row in found]

    def compared_answers(self, comparison_id: int, problem_id: str) -> dict[str, Any]:
        """The sides by name, as `ttrl_engine.compare.answer_both` gives them, of one problem of a comparison over a
        set; a side is missing until it has been asked."""
        found = self.rows(
            "SELECT side, side_json FROM comparison_answers WHERE comparison_id = ? AND problem_id = ?",
            (comparison_id, problem_id),
        )
        return {row["side"]: json.loads(row["side_json"]) for row in found}

    def first_answers(self, comparison_id: int) -> dict[str, dict[str, Any]]:
        """The first answer of each side of a comparison over a set, by problem id and side."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows(
            "SELECT problem_id, side, json_extract(side_json, '$.answers[0]') AS answer FROM comparison_answers"
            " WHERE comparison_id = ?",
            (comparison_id,),
        ):
            found.setdefault(row["problem_id"], {})[row["side"]] = json.loads(row["answer"])
        return found


def rule_of(run: RunRow, comparison: ComparisonRow) -> AnswerConfig:
    """How answers of a comparison are read and compared: as in its run. What was said of single answers was said of
    the run's own set: another may have problems of the same ids."""
    rule = run.config.answers
    own = comparison.set_id in (None, run.set_id)
    return rule if own else rule.model_copy(update={"merges": (), "detached": ()})


def _comparison_row(row: sqlite3.Row) -> ComparisonRow:
    values = tuple(row)
    names = list(row.keys())[NUM_JOB_COLUMNS:]
    own: dict[str, Any] = dict(zip(names, values[NUM_JOB_COLUMNS:], strict=True))
    own["problem_ids"] = tuple(json.loads(own.pop("problem_ids_json") or "[]"))
    title = f"Comparison {own['id']} of run {own['run_id']}"
    return ComparisonRow(**own, job=job_row((*values[:NUM_JOB_COLUMNS], own["id"], title)))
