"""Whole tables of a run, row by row, for files that other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

from worker.store.connection import Connected

TableName: TypeAlias = Literal["metrics", "elections", "scores"]

# Column -> its type in SQLite; `run_id` is the first of each.
TABLES: Final[dict[str, dict[str, str]]] = {
    "metrics": {"run_id": "INTEGER", "step": "INTEGER", "name": "TEXT", "value": "REAL"},
    "elections": {
        "run_id": "INTEGER",
        "step": "INTEGER",
        "problem_id": "TEXT",
        "label": "TEXT",
        "abstained": "TEXT",
        "consensus": "REAL",
        "margin": "REAL",
        "num_rollouts": "INTEGER",
        "num_classes": "INTEGER",
        "num_unparsed": "INTEGER",
        "num_truncated": "INTEGER",
        "reward_mean": "REAL",
        "label_correct": "INTEGER",
        "reward_accuracy": "REAL",
        "truth_share": "REAL",
        "classes_json": "TEXT",
    },
    "scores": {
        "run_id": "INTEGER",
        "step": "INTEGER",
        "split": "TEXT",
        "problem_set": "TEXT",
        "problem_id": "TEXT",
        "num_samples": "INTEGER",
        "num_correct": "INTEGER",
        "maj_answer": "TEXT",
        "maj_correct": "INTEGER",
    },
}


class Tables(Connected):
    """Reading only."""

    def table_rows(self, run_id: int, table: TableName, batch: int = 5000) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of one table in batches, columns as in TABLES, None for what is not known."""
        columns = ", ".join(TABLES[table])
        # One statement, hence one state of the database, although a run may be writing.
        cursor = self.connection.execute(
            f"SELECT {columns} FROM {table} WHERE run_id = ? ORDER BY step",  # noqa: S608 -- our own names
            (run_id,),
        )
        while rows := cursor.fetchmany(batch):
            yield [tuple(row) for row in rows]
