"""Everything measured of a run, to compare two runs with."""

from __future__ import annotations

from worker.store import Store


def measured(store: Store, run_id: int) -> dict[str, list[str]]:
    """Table -> its rows without the run's number, in an order that does not depend on when they were written."""
    return {
        table: sorted(repr(tuple(row)[1:]) for row in store.rows(f"SELECT * FROM {table} WHERE run_id = ?", (run_id,)))
        for table in ("metrics", "elections", "evaluations", "scores")
    }
