"""Choices kept with the installation, such as the preset last used."""

from __future__ import annotations

import json
from typing import Any

from worker.store.connection import Connected


class Preferences(Connected):
    """The table `settings`."""

    def preference(self, key: str, default: Any = None) -> Any:
        """A value as it was kept, or the default."""
        row = self.row("SELECT value_json FROM settings WHERE key = ?", (key,))
        return default if row is None else json.loads(row["value_json"])

    def keep_preference(self, key: str, value: Any) -> None:
        """Keep a JSON-ready value."""
        with self.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO settings (key, value_json) VALUES (?, ?)", (key, json.dumps(value))
            )
