"""The supervisor: starts, restarts with growing pauses, stops in good order, kills what does not stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.supervise import LONGEST_BACKOFF_S, Service, Supervisor, backoff_s

OBEDIENT = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(60)",
)


def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def supervise():
    """Start a supervisor in a thread; it is stopped, whatever the test did."""
    started: list[tuple[Supervisor, threading.Thread]] = []

    def start(*services: Service, grace_s: float = 5.0, report: Callable[[str], None] = lambda _: None) -> Supervisor:
        supervisor = Supervisor(services, grace_s, report)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        started.append((supervisor, thread))
        return supervisor

    yield start
    for supervisor, thread in started:
        supervisor.request_stop()
        thread.join(20.0)
        assert not thread.is_alive()


def test_pauses_grow_and_are_bounded():
    pauses = [backoff_s(failures) for failures in range(1, 12)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(pauses) == LONGEST_BACKOFF_S


def test_a_killed_service_is_started_again(supervise):
    said: list[str] = []
    supervisor = supervise(Service("worker", OBEDIENT), report=said.append)
    until(lambda: "worker" in supervisor.pids())
    first = supervisor.pids()["worker"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids().get("worker", first) != first)
    assert said == ["The worker process ended by signal SIGKILL; starting it again in 0.5 s."]


def test_a_stop_ends_every_service(supervise):
    supervisor = supervise(Service("web", OBEDIENT), Service("worker", OBEDIENT))
    until(lambda: len(supervisor.pids()) == 2)
    pids = list(supervisor.pids().values())
    supervisor.request_stop()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_service_that_ignores_the_stop_is_killed_after_the_grace(supervise, tmp_path):
    said: list[str] = []
    ready = tmp_path / "ready"
    supervisor = supervise(Service("worker", (*STUBBORN, str(ready))), grace_s=0.5, report=said.append)
    until(ready.exists)
    pid = supervisor.pids()["worker"]
    supervisor.request_stop()
    until(lambda: not alive(pid))
    assert said == ["The worker process did not stop in time and is killed."]


def test_a_second_stop_does_not_wait_for_the_grace(supervise, tmp_path):
    ready = tmp_path / "ready"
    supervisor = supervise(Service("worker", (*STUBBORN, str(ready))), grace_s=60.0)
    until(ready.exists)
    pid = supervisor.pids()["worker"]
    supervisor.request_stop()
    time.sleep(0.5)
    supervisor.request_stop()
    until(lambda: not alive(pid), timeout_s=5.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal of a parent exists on Linux only")
def test_services_end_with_a_supervisor_that_was_killed(tmp_path: Path):
    code = (
        "import sys; from app.supervise import *\n"
        "s = Supervisor([Service('worker', (sys.executable, '-c', 'import time; time.sleep(60)'))], 5.0, print)\n"
        "s.run(lambda: print(*s.pids().values(), flush=True))"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.strip())
        pid = int(line)
        assert alive(pid)
        process.kill()
    until(lambda: not alive(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
