"""Runs: submitting them, listing them, reading one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import PurePosixPath

from ttrl_engine.config import AnswerConfig, RunConfig
from ttrl_engine.errors import ConfigError, DataError, StudioError
from ttrl_engine.patterns import require_fast
from worker.rows import EvaluationRow, JobRow, RunRow, RunSummary
from worker.store.connection import Connected, now
from worker.store.jobs import JOB_COLUMNS, NUM_JOB_COLUMNS, insert_job, job_row
from worker.store.problem_sets import rule_from

_RUN_COLUMNS = """
runs.id, runs.client_id, runs.name, runs.config_json, runs.config_digest, runs.set_id, problem_sets.name AS set_name,
problem_sets.num_references AS set_num_references, runs.data_hash, runs.versions_json, runs.seed, runs.parent_run_id,
runs.model, runs.created_at, runs.num_parameters, runs.num_trainable, runs.num_adapt, runs.num_held_out, runs.sampler,
runs.device, runs.threads, runs.step, runs.total_steps, runs.phase, runs.phase_step, runs.phase_done, runs.phase_total,
runs.eta_low_s, runs.eta_high_s, runs.last_event_at, runs.policy_path, runs.archived, runs.note
"""

_SELECT = f"""
SELECT {JOB_COLUMNS}, {_RUN_COLUMNS} FROM runs JOIN jobs ON jobs.id = runs.job_id
JOIN problem_sets ON problem_sets.id = runs.set_id
"""  # noqa: S608 (our own columns)
_BY_ID = _SELECT + " WHERE runs.id = ?"
_BY_JOB = _SELECT + " WHERE runs.job_id = ?"
_MADE_FROM = _SELECT + " WHERE runs.parent_run_id = ? ORDER BY runs.id DESC"
_NEWEST = _SELECT + " WHERE runs.archived <= ? ORDER BY runs.id DESC LIMIT ?"

VERSIONED = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "vllm", "ttrl-studio")
"""Packages whose versions can change a result, or say who computed it."""


class Runs(Connected):
    """The table `runs`."""

    def submit_run(
        self,
        config: RunConfig,
        client_id: str,
        problem_set_id: str,
        parent_run_id: int | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> int:
        """Freeze a run and put it at the end of the queue; returns its id. The same `client_id` gives the same run.

        What the config leaves open about answers is taken from the problem set now, so that a rule saved later does
        not reach this run.

        Only the rows: whoever calls this rings the doorbell afterwards (`jobs.JobDesk.submit_run` does both).
        """
        if not client_id or len(client_id) > 200:
            raise ConfigError("A run needs a client id of 1 to 200 characters, so that starting twice starts once.")
        if config.answers.pattern is not None:
            require_fast(config.answers.pattern)
        with self.writing() as connection:
            known = connection.execute("SELECT id FROM runs WHERE client_id = ?", (client_id,)).fetchone()
            if known is not None:
                return int(known["id"])
            chosen = connection.execute(
                "SELECT name, kind, rule_json FROM problem_sets WHERE id = ?", (problem_set_id,)
            ).fetchone()
            if chosen is None:
                raise DataError(f"There is no problem set {problem_set_id!r}. Pick one of the list or upload it again.")
            rule = rule_from(chosen["rule_json"]).over(AnswerConfig(kind=chosen["kind"]))
            named = config.model_copy(
                update={
                    "name": config.name.strip() or default_name(config, chosen["name"]),
                    "answers": config.answers.over(rule),
                }
            )
            row = {
                "job_id": insert_job(connection, "run"),
                "client_id": client_id,
                "name": named.name,
                "config_json": named.model_dump_json(),
                "config_digest": named.digest(),
                "set_id": problem_set_id,
                "data_hash": problem_set_id,
                "versions_json": json.dumps(dict(versions if versions is not None else installed_versions())),
                "seed": named.seed,
                "parent_run_id": parent_run_id,
                "model": named.model.source,
                "created_at": now(),
            }
            cursor = connection.execute(
                "INSERT INTO runs (job_id, client_id, name, config_json, config_digest, set_id, data_hash,"
                " versions_json, seed, parent_run_id, model, created_at) VALUES (:job_id, :client_id, :name,"
                " :config_json, :config_digest, :set_id, :data_hash, :versions_json, :seed, :parent_run_id, :model,"
                " :created_at)",
                row,
            )
            return int(cursor.lastrowid or 0)

    def run(self, run_id: int) -> RunRow | None:
        """One run with its job, archived or not."""
        row = self.row(_BY_ID, (run_id,))
        return None if row is None else _run_row(row)

    def run_of_job(self, job_id: int) -> RunRow | None:
        """The run that a job computes; None for a comparison."""
        row = self.row(_BY_JOB, (job_id,))
        return None if row is None else _run_row(row)

    def runs(self, archived: bool = False, limit: int = 200) -> list[RunRow]:
        """Runs, newest first; archived ones only if asked for."""
        return [_run_row(row) for row in self.rows(_NEWEST, (int(archived), limit))]

    def children(self, run_id: int) -> list[RunRow]:
        """Runs that were made from this one, newest first, archived ones included."""
        return [_run_row(row) for row in self.rows(_MADE_FROM, (run_id,))]

    def summaries(self, run_ids: Sequence[int]) -> dict[int, RunSummary]:
        """The few numbers a list shows of each run."""
        return {run_id: self._summary(run_id) for run_id in run_ids}

    def rename_run(self, run_id: int, name: str) -> None:
        """Another name for the list; the frozen config keeps the first. Raises StudioError if empty."""
        name = name.strip()[:120]
        if not name:
            raise StudioError("A run needs a name.")
        self._set(run_id, "UPDATE runs SET name = ? WHERE id = ?", name)

    def note_run(self, run_id: int, note: str) -> None:
        """A free note of the user."""
        self._set(run_id, "UPDATE runs SET note = ? WHERE id = ?", note[:20_000])

    def archive_run(self, run_id: int, archived: bool = True) -> None:
        """Take the run out of the lists, or back in. Raises StudioError while it waits or computes."""
        run = self.run(run_id)
        if run is not None and archived and not run.job.is_terminal:
            raise StudioError("Only a run that has ended can be archived. Cancel it first.")
        self._set(run_id, "UPDATE runs SET archived = ? WHERE id = ?", int(archived))

    def _set(self, run_id: int, sql: str, value: str | int) -> None:
        with self.writing(run_id) as connection:
            connection.execute(sql, (value, run_id))

    def _summary(self, run_id: int) -> RunSummary:
        ends: dict[str, tuple[float | None, float | None]] = {}
        for name in ("consensus", "label_accuracy"):
            row = self.row(
                "SELECT (SELECT value FROM metrics WHERE run_id = :run AND name = :name ORDER BY step LIMIT 1),"
                " (SELECT value FROM metrics WHERE run_id = :run AND name = :name"
                " AND step <= (SELECT step FROM runs WHERE id = :run) ORDER BY step DESC LIMIT 1)",
                {"run": run_id, "name": name},
            )
            ends[name] = (None, None) if row is None else (row[0], row[1])
        newest = self.rows(
            "SELECT * FROM evaluations e WHERE run_id = ? AND step = (SELECT max(step) FROM evaluations"
            " WHERE run_id = e.run_id AND split = e.split AND problem_set = e.problem_set"
            " AND step <= (SELECT step FROM runs WHERE id = e.run_id)) ORDER BY split, problem_set",
            (run_id,),
        )
        alarms = self.row("SELECT count(*) FROM alarms WHERE run_id = ?", (run_id,))
        return RunSummary(
            run_id=run_id,
            consensus_first=ends["consensus"][0],
            consensus_last=ends["consensus"][1],
            label_accuracy_last=ends["label_accuracy"][1],
            num_alarms=0 if alarms is None else alarms[0],
            evaluations=tuple(evaluation_row(row) for row in newest),
        )


def default_name(config: RunConfig, set_name: str) -> str:
    """What a run is called that nobody named: its model on its data."""
    model = PurePosixPath(config.model.source.removeprefix("bundled:")).name or "model"
    return f"{model} on {set_name}"[:120]


def installed_versions() -> dict[str, str]:
    """Versions of the packages that can change a result; those not installed are left out."""
    found = {}
    for package in VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def evaluation_row(row: sqlite3.Row) -> EvaluationRow:
    """An EvaluationRow from all columns of `evaluations`."""
    return EvaluationRow(**{**dict(row), "from_cache": bool(row["from_cache"])})


def _run_row(row: sqlite3.Row) -> RunRow:
    values = tuple(row)
    names = list(row.keys())[NUM_JOB_COLUMNS:]
    run = dict(zip(names, values[NUM_JOB_COLUMNS:], strict=True))
    job: JobRow = job_row((*values[:NUM_JOB_COLUMNS], run["id"], run["name"]))
    return RunRow(**{**run, "archived": bool(run["archived"])}, job=job)
