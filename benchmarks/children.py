"""The two sides of `engine_vs_trl` as processes: started, asked for a step, read, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.exchange import Job

ROOT = Path(__file__).resolve().parent.parent
# One thread per side, wherever a library reads its number from, and no network.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRACKIO_DISABLED": "1"}
SECONDS_TO_END = 60


class Child:
    """One side. `log` holds what it printed besides its replies."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process, self.log = process, log

    def ask(self) -> None:
        """Let it begin its next step."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()

    def wait(self) -> dict[str, Any]:
        """Its next reply. Raises RuntimeError with the end of its log where it died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"A side of the benchmark ended early. The end of its log:\n{self.log.read()[-3000:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def step(self) -> dict[str, Any]:
        """Run one step and return what it reports."""
        self.ask()
        return self.wait()


@dataclass(frozen=True)
class Sides:
    """How to start either side."""

    trl_python: Path

    def start_trl(self, job: Job) -> contextlib.AbstractContextManager[Child]:
        """TRL in its own environment."""
        return _started([str(self.trl_python), "-m", "benchmarks.trl_side", job.to_json()], job)

    def start_ours(self, job: Job) -> contextlib.AbstractContextManager[Child]:
        """Our engine in this environment."""
        return _started([sys.executable, "-m", "benchmarks.engine_side", job.to_json()], job)


@contextlib.contextmanager
def _started(command: list[str], job: Job) -> Iterator[Child]:
    environment = os.environ | OFFLINE | (ONE_THREAD if job.device == "cpu" else {})
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Child(process, log)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(SECONDS_TO_END)
        finally:
            process.kill()
