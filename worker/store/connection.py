"""The connection to app.db: one per thread, and the only two ways to use it, reading and writing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]

BUSY_TIMEOUT_S = 10.0

ALL = 0
"""The scope of changes that concern no single run."""


class Connected:
    """Base of every part of the store. Any thread may use it; each gets a connection of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / "app.db"
        self._local = threading.local()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode: a transaction begins only where `writing` begins it."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self.path)
            self._local.connection = connection
        return connection

    def close(self) -> None:
        """Close this thread's connection; the next use opens a new one."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows of one SELECT."""
        return self.connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of one SELECT, or None."""
        found: sqlite3.Row | None = self.connection.execute(sql, parameters).fetchone()
        return found

    @contextmanager
    def writing(self, *scopes: int) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing. `scopes` are the ids of the runs whose pages it changes; the negative
        id of a run stands for its progress alone.

        BEGIN IMMEDIATE, because a transaction that reads first and writes later fails at once with "database is
        locked" when another has written in between; the busy timeout does not help there.
        """
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            for scope in {ALL, *scopes}:
                connection.execute(
                    "INSERT INTO changes (scope, count) VALUES (?, 1)"
                    " ON CONFLICT (scope) DO UPDATE SET count = count + 1",
                    (scope,),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    # In WAL mode NORMAL cannot corrupt the file; a power cut can lose the last commits, which a resume repeats.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def now() -> float:
    """Unix seconds. Asked of Python and not of SQLite, whose older versions have no sub-second clock."""
    return time.time()
