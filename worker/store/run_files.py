"""What a run left on disk beside its rows: the log and the rollouts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ttrl_engine.revote import read_rollouts
from worker.folders import comparison_folder, run_folder
from worker.store.connection import Connected

_TAIL_BYTES = 512 * 1024
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class RunFiles(Connected):
    """Files below DATA/runs and DATA/comparisons. Rows never hold a path of these that a user chose."""

    def run_folder(self, run_id: int) -> Path:
        """The run's folder, whether or not it exists yet."""
        return run_folder(self.data_dir, run_id)

    def log_tail(self, run_id: int, lines: int = 200) -> str:
        """The last lines of the run's log, as plain text; empty where there is none yet."""
        return tail(run_folder(self.data_dir, run_id) / "log.txt", lines)

    def comparison_log_tail(self, comparison_id: int, lines: int = 200) -> str:
        """The last lines of a comparison's log."""
        return tail(comparison_folder(self.data_dir, comparison_id) / "log.txt", lines)

    def rollouts(self, run_id: int, step: int, problem_id: str | None = None) -> list[dict[str, Any]]:
        """The rollouts of one step, of one problem if named; see `ttrl_engine.revote.read_rollouts`."""
        return read_rollouts(run_folder(self.data_dir, run_id), int(step), problem_id)

    def rollout_steps(self, run_id: int) -> list[int]:
        """The steps whose rollouts are on disk."""
        names = (run_folder(self.data_dir, run_id) / "rollouts").glob("step-*.jsonl.gz")
        numbers = (name.name.removeprefix("step-").removesuffix(".jsonl.gz") for name in names)
        return sorted(int(number) for number in numbers if number.isdigit())


def tail(path: Path, lines: int) -> str:
    """The last `lines` lines of a text file, without terminal colours, progress bars at their last state."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    shown = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ESCAPES.sub("", text).split("\n"))
    return "\n".join(list(shown)[-lines - 1 :]).strip("\n")
