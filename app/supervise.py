"""Keeps the web process and the worker alive: starts them, restarts what dies, stops both cleanly.

Each service runs in a session of its own, so that a Ctrl-C in the terminal reaches only the supervisor and every
service is told to stop once, in order, with time to save.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

POLL_S = 0.2
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
# A service that ran this long was healthy: its next failure starts the backoff afresh.
HEALTHY_AFTER_S = 60.0
PR_SET_PDEATHSIG = 1

Report = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """A process to keep alive. `environment` is laid over the supervisor's own."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def backoff_s(failures: int) -> float:
    """Seconds to wait before the restart that follows the n-th failure in a row (n from 1)."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** max(0, failures - 1))


class _Watched:
    """One service, its process, and how often it has failed in a row."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.started_at = 0.0
        self.restart_at = 0.0

    def start(self, now: float) -> None:
        self.process = subprocess.Popen(
            self.service.command,
            env={**os.environ, **self.service.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
        )
        self.started_at = now

    def signal(self, number: int) -> None:
        """Signal the process; for SIGKILL its whole group, which nothing else lives in."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        except ProcessLookupError:
            return


class Supervisor:
    """Runs services until told to stop. `report` gets one sentence per thing worth telling."""

    def __init__(self, services: Sequence[Service], grace_s: float, report: Report) -> None:
        self._watched = [_Watched(service) for service in services]
        self._grace_s = grace_s
        self._report = report
        self._num_stop_requests = 0

    def request_stop(self, *_: int | FrameType | None) -> None:
        """Stop in good order; asked a second time, at once. Fits `signal.signal`."""
        self._num_stop_requests += 1

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for an end."""
        return self._num_stop_requests > 0

    def pids(self) -> dict[str, int]:
        """The process ids of the services that run now."""
        return {w.service.name: w.process.pid for w in self._watched if w.process and w.process.poll() is None}

    def run(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Start everything and return once all of it has ended after `request_stop`."""
        try:
            while not self.stopping:
                self._tend(time.monotonic())
                on_tick()
                time.sleep(POLL_S)
        finally:
            self._stop_all()

    def _tend(self, now: float) -> None:
        for watched in self._watched:
            if watched.process is None:
                if now >= watched.restart_at:
                    watched.start(now)
                continue
            status = watched.process.poll()
            if status is None:
                continue
            watched.failures = 1 if now - watched.started_at >= HEALTHY_AFTER_S else watched.failures + 1
            wait_s = backoff_s(watched.failures)
            watched.process = None
            watched.restart_at = now + wait_s
            self._report(
                f"The {watched.service.name} process ended {_ending(status)}; starting it again in {wait_s:g} s."
            )

    def _stop_all(self) -> None:
        running = [w for w in self._watched if w.process is not None and w.process.poll() is None]
        for watched in running:
            watched.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        asked = self._num_stop_requests
        while running and time.monotonic() < deadline and self._num_stop_requests <= max(1, asked):
            running = [w for w in running if w.process is not None and w.process.poll() is None]
            time.sleep(POLL_S / 4)
        for watched in running:
            self._report(f"The {watched.service.name} process did not stop in time and is killed.")
            watched.signal(signal.SIGKILL)
        for watched in self._watched:
            if watched.process is not None:
                watched.process.wait()


def _ending(status: int) -> str:
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


# Loaded here and not in the hook below: between fork and exec nothing may take the import lock.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _stop_with_parent() -> None:
    """In the child, before exec: get a SIGTERM if the supervisor dies without a word (kill -9)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
