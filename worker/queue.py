"""The doorbell: a Huey message that wakes the worker. It carries nothing; what to do next is read from the jobs table.

A message may be lost (Huey deletes it when it is read): the reconciler rings again for whatever still waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from huey import SqliteHuey
from huey.consumer import Consumer
from huey.storage import SqliteStorage

from worker.folders import QUEUE


class _Storage(SqliteStorage):  # type: ignore[misc]  # huey ships no types
    """SQLite with synchronous=NORMAL, which Huey cannot be told: several times faster, and safe in WAL mode."""

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


class JobQueue(SqliteHuey):  # type: ignore[misc]  # huey ships no types
    """The Huey instance behind the doorbell."""

    storage_class = _Storage


class EmbeddedConsumer(Consumer):  # type: ignore[misc]  # huey ships no types
    """Huey's consumer, whose way with signals would cut jobs off: the worker service handles them."""

    def _set_signal_handlers(self) -> None:
        """Leave the signals alone."""


class Doorbell:
    """Rings from anywhere; answered in the worker's consumer threads by `answer`."""

    def __init__(self, data_dir: Path, answer: Callable[[], None] | None = None) -> None:
        path = data_dir / QUEUE
        # Whoever can write this file can run code in the worker, since Huey's messages are pickles.
        path.touch(mode=0o600)
        self.huey = JobQueue("jobs", filename=str(path), results=False, timeout=30)

        # The name, not the function's, is what a waiting message refers to.
        @self.huey.task(name="run_job")  # type: ignore[untyped-decorator]  # huey ships no types
        def run_job() -> None:
            if answer is not None:
                answer()

        self._run_job = run_job

    def ring(self, times: int = 1) -> None:
        """Wake so many consumer threads."""
        for _ in range(times):
            self._run_job()

    def num_rung(self) -> int:
        """Rings that nobody has answered yet."""
        return int(self.huey.pending_count())

    def consumer(self, num_slots: int) -> EmbeddedConsumer:
        """A consumer with one thread per slot, that looks at the queue at least twice a second."""
        return EmbeddedConsumer(self.huey, workers=num_slots, periodic=False, initial_delay=0.05, max_delay=0.5)

    def close(self) -> None:
        """Close the connection to the queue."""
        self.huey.storage.close()
