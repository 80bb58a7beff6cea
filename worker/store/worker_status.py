"""The worker's sign of life."""

from __future__ import annotations

import json
from collections.abc import Sequence

from worker.rows import WorkerStatus
from worker.store.connection import now
from worker.store.jobs import Jobs

SILENT_AFTER_S = 10.0
"""A worker that was not seen for so long does not count as alive."""


class WorkerPresence(Jobs):
    """The flag `worker`."""

    def worker_status(self) -> WorkerStatus:
        """Whether a worker serves this data folder."""
        row = self.row("SELECT value FROM flags WHERE name = 'worker'")
        if row is None:
            return WorkerStatus(False, None, None, None, None, None, 0, ())
        seen = json.loads(row["value"])
        silent_s = max(0.0, now() - seen["at"])
        return WorkerStatus(
            alive=bool(seen["up"]) and silent_s < SILENT_AFTER_S,
            last_seen_at=seen["at"],
            silent_s=silent_s,
            name=seen["name"],
            pid=seen["pid"],
            started_at=seen["started_at"],
            slots=seen["slots"],
            gpus=tuple(seen["gpus"]),
        )

    def report_worker(
        self, name: str, pid: int, started_at: float, slots: int, gpus: Sequence[str], up: bool = True
    ) -> None:
        """A sign of life, or (`up` False) the word that the worker has left in good order."""
        value = {"name": name, "pid": pid, "started_at": started_at, "slots": slots, "gpus": list(gpus)}
        # Not through `writing`: a sign of life is no change that a page should redraw for.
        self.connection.execute(
            "INSERT INTO flags (name, value) VALUES ('worker', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (json.dumps({**value, "up": up, "at": now()}),),
        )
