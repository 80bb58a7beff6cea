"""Where things lie in the data folder. Every name is made of our own numbers; nothing a user typed becomes a path."""

from __future__ import annotations

from pathlib import Path

DATABASE = "app.db"
QUEUE = "queue.db"
WORKER_LOCK = "worker.lock"
READINGS = "readings.db"  # what math answers were read as, shared by all runs; safe to delete


def make_data_folder(data_dir: Path) -> Path:
    """The data folder, made if needed, readable by its owner only."""
    data_dir = data_dir.expanduser().resolve()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("runs", "comparisons", "exports", "preflights", "uploads"):
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)
    return data_dir


def run_folder(data_dir: Path, run_id: int) -> Path:
    """The folder of one run: config.yaml, log.txt, checkpoints/, policy/, rollouts/, export/."""
    return data_dir / "runs" / str(int(run_id))


def comparison_folder(data_dir: Path, comparison_id: int) -> Path:
    """The folder of one comparison: log.txt."""
    return data_dir / "comparisons" / str(int(comparison_id))


def export_folder(data_dir: Path, export_id: int) -> Path:
    """The folder of one export: log.txt. What it makes lies with its run, see `merged_folder`."""
    return data_dir / "exports" / str(int(export_id))


def preflight_folder(data_dir: Path, preflight_id: int) -> Path:
    """The folder of one check before a run: log.txt."""
    return data_dir / "preflights" / str(int(preflight_id))


def merged_folder(data_dir: Path, run_id: int) -> Path:
    """Where the merged model of a run is; it is there once it is complete."""
    return run_folder(data_dir, run_id) / "export" / "merged"
