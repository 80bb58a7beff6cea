"""The worker as a process of its own: killed, stopped, started twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.conftest import HERE
from tests.worker.measured import measured
from tests.worker.waiting import wait_until
from worker.queue import Doorbell
from worker.rows import RunRow
from worker.states import JobState
from worker.store import Store

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(store: Store) -> Iterator[Start]:
    """Start a worker with a scripted engine; what is left of it at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def _start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "scripted_worker.py"), "--data-dir", str(store.data_dir)],
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.wait()
    for job in store.active_jobs():
        if job.pid is not None and Path(f"/proc/{job.pid}").exists():
            os.killpg(job.pid, signal.SIGKILL)


def _run(store: Store, run_id: int) -> RunRow:
    run = store.run(run_id)
    assert run is not None
    return run


def test_a_run_survives_its_worker(store: Store, submit, start: Start):
    run_id, never_killed = submit("sleep=0.05", max_steps=40, save_every=5), submit("fine", max_steps=40)
    first = start()
    wait_until(lambda: _run(store, run_id).step >= 7, "step 7")
    first.kill()
    first.wait()
    assert _run(store, run_id).job.is_active
    start()
    wait_until(lambda: _run(store, never_killed).state is JobState.FINISHED, "both runs", 30.0)
    run = _run(store, run_id)
    assert (run.state, run.step, run.job.attempt) == (JobState.FINISHED, 40, 2)
    assert measured(store, run_id) == measured(store, never_killed)
    moves = [move.to_state for move in store.history(run.job_id)]
    assert moves == ["queued", "starting", "running", "queued", "starting", "running", "finished"]


def test_a_stubborn_process_that_outlives_its_worker_is_ended_before_its_job_goes_on(
    store: Store, submit, start: Start
):
    run_id = submit("stubborn=1 sleep=0.05", max_steps=100_000, save_every=5)
    first = start()
    wait_until(lambda: _run(store, run_id).step >= 2, "the first steps")
    pid = _run(store, run_id).job.pid
    assert pid is not None
    first.kill()
    first.wait()
    start()
    wait_until(lambda: _run(store, run_id).job.attempt == 2, "the second attempt", 30.0)
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_a_clean_stop_sends_jobs_back_and_leaves_nothing_running(store: Store, submit, start: Start):
    run_id = submit("sleep=0.05", max_steps=1000)
    worker = start()
    wait_until(lambda: _run(store, run_id).step >= 2, "the first steps")
    pid = _run(store, run_id).job.pid
    assert store.worker_status().alive
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15.0) == 0
    assert _run(store, run_id).state is JobState.QUEUED
    assert not store.worker_status().alive
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


def test_a_lost_doorbell_is_rung_again_and_a_held_queue_is_left_alone(store: Store, submit, start: Start):
    store.hold_queue(True)
    run_id = submit()  # a row, and no ring
    start()
    wait_until(lambda: store.worker_status().alive, "the worker")
    assert Doorbell(store.data_dir).num_rung() == 0
    assert _run(store, run_id).state is JobState.QUEUED
    store.hold_queue(False)
    wait_until(lambda: _run(store, run_id).state is JobState.FINISHED, "the run that nobody rang for")


def test_a_second_worker_is_turned_away(store: Store, start: Start):
    start()
    wait_until(lambda: store.worker_status().alive, "the worker")
    second = subprocess.run(
        [sys.executable, "-m", "worker", "--data-dir", str(store.data_dir)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=HERE.parents[1],
        check=False,
    )
    assert second.returncode == 2
    assert "Another worker (process" in second.stderr
