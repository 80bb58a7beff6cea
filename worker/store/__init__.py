"""The store: all reading and writing of app.db goes through `Store`. One concern per file, no SQL elsewhere."""

from __future__ import annotations

from pathlib import Path

from worker.folders import DATABASE, make_data_folder
from worker.store.blind import BlindSessions
from worker.store.comparisons import Comparisons
from worker.store.deliveries import Deliveries
from worker.store.elections import Elections
from worker.store.evaluations import Evaluations
from worker.store.exports import Exports
from worker.store.journal import Journal
from worker.store.label_flips import LabelFlips
from worker.store.metrics import MetricSeries
from worker.store.preferences import Preferences
from worker.store.preflights import Preflights
from worker.store.problem_sets import ProblemSets
from worker.store.recording import Recording
from worker.store.run_files import RunFiles
from worker.store.runs import Runs
from worker.store.spot_checks import SpotChecks
from worker.store.tables import Tables

__all__ = ["Store", "open_store"]


class Store(
    Preflights,
    ProblemSets,
    Runs,
    MetricSeries,
    Elections,
    LabelFlips,
    SpotChecks,
    Evaluations,
    Journal,
    Comparisons,
    BlindSessions,
    Exports,
    Deliveries,
    Tables,
    RunFiles,
    Recording,
    Preferences,
):
    """One data folder. Any thread may use one Store; each thread gets its own connection."""


def open_store(data_dir: Path) -> Store:
    """The store of a data folder, made and brought up to date if needed."""
    # sqlite-utils loads pandas where that is installed: not for the process of a job, which never migrates.
    from worker.schema import migrate

    data_dir = make_data_folder(data_dir)
    migrate(data_dir / DATABASE)
    return Store(data_dir)
