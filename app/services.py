"""What every page may use: the settings, the store, and the commands that ring the worker's doorbell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttrl_engine.equivalence import configure_shared
from worker.folders import READINGS, run_folder
from worker.jobs import JobDesk
from worker.settings import Settings
from worker.store import Store, open_store


@dataclass(frozen=True)
class Services:
    """One per web process; pages hold no other state."""

    settings: Settings
    store: Store
    desk: JobDesk

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Opens (and where needed creates) the store of the data folder."""
        store = open_store(settings.data_dir)
        configure_shared(store.data_dir / READINGS)
        return cls(settings=settings, store=store, desk=JobDesk(store))

    def run_folder(self, run_id: int) -> Path:
        """Where a run keeps its files. `run_id` is our own number, never text from a user."""
        return run_folder(self.settings.data_dir, run_id)
