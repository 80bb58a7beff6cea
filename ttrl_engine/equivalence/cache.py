"""Readings on disk: a text is read once, across steps, restarts and runs."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ttrl_engine.equivalence.reading import Reading

MAX_ROWS: Final = 500_000
BUSY_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS readings (
    id INTEGER PRIMARY KEY, version TEXT NOT NULL, text TEXT NOT NULL, key TEXT, reason TEXT, UNIQUE (version, text)
)"""
_MAX_VARIABLES: Final = 500


class ReadingCache:
    """Readings in an SQLite file that several processes may share.

    `version` names what made the readings; others' are not used. At most `max_rows` are kept, the oldest go. A file
    that is no database is made anew; where nothing can be stored, nothing is, and no call raises.
    """

    def __init__(self, path: Path, version: str, *, max_rows: int = MAX_ROWS) -> None:
        self._path = path
        self._version = version
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._database = self._opened()

    def get(self, texts: Sequence[str]) -> dict[str, Reading]:
        """The readings that are stored."""
        found: dict[str, Reading] = {}
        with self._lock, self._forgiving():
            for start in range(0, len(texts), _MAX_VARIABLES) if self._database else ():
                part = texts[start : start + _MAX_VARIABLES]
                marks = ",".join("?" * len(part))
                query = f"SELECT text, key, reason FROM readings WHERE version = ? AND text IN ({marks})"  # noqa: S608
                rows = self._database.execute(query, (self._version, *part)) if self._database else ()
                found |= {text: Reading(key, reason) for text, key, reason in rows}
        return found

    def put(self, readings: Mapping[str, Reading]) -> None:
        """Store readings; those that are there stay."""
        rows = [(self._version, text, each.key, each.reason) for text, each in readings.items()]
        with self._lock, self._forgiving():
            if self._database is None or not rows:
                return
            with self._database:
                insert = "INSERT OR IGNORE INTO readings (version, text, key, reason) VALUES (?, ?, ?, ?)"
                self._database.executemany(insert, rows)
                oldest = "DELETE FROM readings WHERE id <= (SELECT max(id) FROM readings) - ?"
                self._database.execute(oldest, (self._max_rows,))

    def close(self) -> None:
        """Close the file; nothing is stored from then on."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None

    @contextlib.contextmanager
    def _forgiving(self):  # type: ignore[no-untyped-def]
        try:
            yield
        except (sqlite3.OperationalError, ValueError):
            pass  # busy, full or read-only: the texts are read again
        except sqlite3.DatabaseError:
            if self._database is not None:
                self._database.close()
            self._remove()
            self._database = self._opened()

    def _opened(self) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                return self._connected()
            except sqlite3.OperationalError:
                return None
            except sqlite3.DatabaseError:
                self._remove()
            except OSError:
                return None
        return None

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_SCHEMA)
            database.execute("SELECT version, text, key, reason FROM readings LIMIT 1")
            database.commit()
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
