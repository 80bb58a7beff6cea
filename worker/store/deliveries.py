"""What happened that somebody may want to be told, and the messages on their way to webhooks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from worker.rows import DeliveryRow
from worker.store.connection import Connected, now

KEPT_S = 30 * 86_400.0
"""A message that has been sent, or given up, is kept so long."""

_ENDS = """
SELECT runs.id AS run_id, job_history.id AS key, job_history.to_state AS what, job_history.reason, job_history.at
FROM job_history JOIN runs ON runs.job_id = job_history.job_id
WHERE job_history.to_state IN ('finished', 'failed', 'lost') AND job_history.at > ? ORDER BY job_history.id
"""
_ALARMS = "SELECT run_id, step, alarm, message, action, at FROM alarms WHERE at > ? ORDER BY at"
_SILENT = """
SELECT runs.id AS run_id, runs.last_event_at AS at FROM runs JOIN jobs ON jobs.id = runs.job_id
WHERE jobs.state = 'running' AND runs.last_event_at < ?
"""
_WATCHED = "SELECT value FROM flags WHERE name = 'notified_at'"
_QUEUE = """
INSERT OR IGNORE INTO deliveries (webhook_id, run_id, event, key, message_json, next_at, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class News(NamedTuple):
    """One thing that happened to a run. `event` is finished, failed, alarm or stall; `key` is its identity."""

    run_id: int
    event: str
    key: str
    text: str
    at: float


class Deliveries(Connected):
    """The table `deliveries`."""

    def watched_until(self) -> float | None:
        """Until when what happened has been looked at; None before the first look."""
        row = self.row(_WATCHED)
        return None if row is None else float(row["value"])

    def news(self, since: float, silent_since: float) -> list[News]:
        """Runs that ended and alarms that fired after `since`; runs at work that told nothing after `silent_since`."""
        ends = [
            News(row["run_id"], "finished" if row["what"] == "finished" else "failed", f"move:{row['key']}", *row[3:])
            for row in self.rows(_ENDS, (since,))
        ]
        alarms = [
            News(row["run_id"], "alarm", f"alarm:{row['run_id']}:{row['alarm']}:{row['at']}", row["message"], row["at"])
            for row in self.rows(_ALARMS, (since,))
        ]
        silent = [
            News(row["run_id"], "stall", f"stall:{row['run_id']}:{row['at']}", "", row["at"])
            for row in self.rows(_SILENT, (silent_since,))
        ]
        return [*ends, *alarms, *silent]

    def told(self, keys: Sequence[str]) -> set[tuple[str, str]]:
        """(webhook id, key) of what is already on its way, or has been."""
        found = self.rows(
            "SELECT webhook_id, key FROM deliveries WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
        )
        return {(row["webhook_id"], row["key"]) for row in found}

    def queue_deliveries(self, messages: Iterable[tuple[str, News, dict[str, Any]]], until: float) -> None:
        """Put (webhook id, news, message) on their way, once each, and remember that all until `until` was seen."""
        with self.writing() as connection:
            for webhook_id, news, message in messages:
                row = (webhook_id, news.run_id, news.event, news.key, json.dumps(message), until, until)
                connection.execute(_QUEUE, row)
            connection.execute("INSERT OR REPLACE INTO flags (name, value) VALUES ('notified_at', ?)", (repr(until),))
            connection.execute("DELETE FROM deliveries WHERE created_at < ?", (now() - KEPT_S,))

    def due_deliveries(self, at: float, limit: int = 20) -> list[DeliveryRow]:
        """Messages to be sent now, the oldest first."""
        found = self.rows(
            "SELECT * FROM deliveries WHERE state = 'waiting' AND next_at <= ? ORDER BY id LIMIT ?", (at, limit)
        )
        return [_delivery_row(row) for row in found]

    def settle_delivery(self, delivery_id: int, state: str, error: str | None, next_at: float = 0.0) -> None:
        """One attempt is over: `sent`, `waiting` until `next_at`, or `failed` for good."""
        with self.writing() as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, error = ?, next_at = ?, sent_at = ?"
                " WHERE id = ?",
                (state, error, next_at, now() if state == "sent" else None, delivery_id),
            )

    def newest_deliveries(self, limit: int = 20) -> list[DeliveryRow]:
        """The last messages, newest first."""
        found = self.rows("SELECT * FROM deliveries ORDER BY id DESC LIMIT ?", (limit,))
        return [_delivery_row(row) for row in found]

    def drop_deliveries(self, kept: Sequence[str]) -> None:
        """Forget what waits for webhooks that are not among `kept`."""
        with self.writing() as connection:
            connection.execute(
                "DELETE FROM deliveries WHERE state = 'waiting' AND webhook_id NOT IN (SELECT value FROM json_each(?))",
                (json.dumps(list(kept)),),
            )


def _delivery_row(row: sqlite3.Row) -> DeliveryRow:
    return DeliveryRow(**dict(row))
