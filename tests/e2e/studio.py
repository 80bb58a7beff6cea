"""The whole product as a person starts it: one `ttrl-studio up`, its web process, its worker, a data folder; and a
network that is closed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError

import psutil

from ttrl_engine.config import RunConfig, parse_config
from worker.jobs import JobDesk
from worker.rows import RunRow
from worker.states import TERMINAL, JobState
from worker.store import open_store

READY_S = 90.0
CLOSED_NETWORK = Path(__file__).parent / "closed_network"
# Told to be quiet by these, a process proves nothing about itself.
_SWITCHES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED")


def closed_network(folder: Path) -> dict[str, str]:
    """The environment of a Python process whose network is closed, that of its children too; see `outward`."""
    given = {name: value for name, value in os.environ.items() if name not in _SWITCHES}
    path = os.pathsep.join([str(CLOSED_NETWORK), *filter(None, [given.get("PYTHONPATH")])])
    return given | {"PYTHONPATH": path, "CLOSED_NETWORK_LOG": str(folder / "outward.log")}


def outward(folder: Path) -> list[str]:
    """What the processes of `closed_network` asked of another machine, one line each."""
    log = folder / "outward.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def tiny_config(name: str, **changes: Any) -> RunConfig:
    """A real run of the bundled model that two shared cores finish in well under a minute."""
    config = parse_config(
        {
            "name": name,
            "data": {"problems": "bundled:sums", "max_problems": 16},
            "model": {"method": "full"},
            "vote": {"num_votes": 8, "num_trained": 4, "max_new_tokens": 160},
            "train": {"problems_per_step": 2, "max_steps": 6, "learning_rate": 2e-4},
            "evaluate": {"every_steps": 0, "num_samples": 2},
            "checkpoint": {"every_steps": 2},
            # So few votes look like trouble to a safeguard, which would pause the run.
            "safeguards": {"action": "note"},
        }
    )
    return config.with_changes(**changes)


class Studio:
    """A running Studio whose network is closed. Use as a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.store = open_store(data_dir)
        self.desk = JobDesk(self.store)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Studio:
        self.log = (self.data_dir / "up.log").open("wb")
        command = [sys.executable, "-m", "app.cli", "up", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        environment = {**closed_network(self.data_dir), "TTRL_STUDIO_GRACE_S": "8", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_until(self.is_ready, READY_S, lambda: f"Studio did not start:\n{self.output()}")
            wait_until(lambda: self.store.worker_status().alive, READY_S, lambda: f"No worker:\n{self.output()}")
        except AssertionError:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ctrl-C, and after 40 s the hard way."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
        self.log.close()

    def output(self) -> str:
        """What `up` and its services said."""
        return (self.data_dir / "up.log").read_text(errors="replace")[-4000:]

    def is_ready(self) -> bool:
        """Whether /healthz says so."""
        assert self.process.poll() is None, self.output()
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def web_pid(self) -> int:
        """The process that serves the pages."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if any(
                each.laddr.port == self.port for each in child.net_connections() if each.status == psutil.CONN_LISTEN
            ):
                return int(child.pid)
        raise AssertionError(f"Nobody listens on {self.port}.")

    def worker_pid(self) -> int:
        """The consumer that supervises the jobs."""
        pid = self.store.worker_status().pid
        assert pid is not None
        return pid

    def run(self, run_id: int) -> RunRow:
        """The run as it is stored now."""
        found = self.store.run(run_id)
        assert found is not None
        return found

    def wait_for_step(self, run_id: int, step: int, timeout_s: float = 120.0) -> None:
        """Until the run has finished so many steps; fails at once where the run has failed."""

        def there() -> bool:
            run = self.run(run_id)
            assert run.state is not JobState.FAILED, self.story(run_id)
            return run.step >= step

        wait_until(there, timeout_s, lambda: self.story(run_id))

    def wait_for_end(self, run_id: int, timeout_s: float = 240.0) -> JobState:
        """Until nothing more happens to the run."""
        wait_until(lambda: self.run(run_id).state in TERMINAL, timeout_s, lambda: self.story(run_id))
        return self.run(run_id).state

    def story(self, run_id: int) -> str:
        """What happened to the run, for a failed assertion."""
        run = self.run(run_id)
        moves = "\n".join(
            f"{move.from_state} -> {move.to_state}: {move.reason}" for move in self.store.history(run.job_id)
        )
        return (
            f"step {run.step} "
            f"{run.phase}\n{moves}\n{run.job.error_message}\n{self.store.log_tail(run_id, 30)}\n{self.output()}"
        )


def wait_until(condition: Callable[[], bool], timeout_s: float, explain: Callable[[], str]) -> None:
    """Poll a condition; fail with an explanation when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.25)
    raise AssertionError(explain())
