"""A run on several GPUs: its processes, its GPUs, and what becomes of it when one of them is lost."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.worker.waiting import wait_until
from ttrl_engine.config import parse_config
from ttrl_engine.problems import load_problem_set
from worker.rows import RunRow
from worker.settings import Settings
from worker.states import JobState
from worker.store import Store
from worker.supervisor import Supervisor

SMALL: dict[str, Any] = {
    "data": {"problems": "bundled:sums", "held_out_share": 0.0, "max_problems": 6},
    "vote": {"num_votes": 4, "num_trained": 4, "max_new_tokens": 64},
    "train": {"problems_per_step": 3, "epochs": 200},
    "evaluate": {"every_steps": 0, "num_samples": 1, "max_problems": 2},
    "checkpoint": {"every_steps": 1},
    "hardware": {"device": "cpu", "threads": 1, "gpus": 2},
}
SAYS_ITS_GPUS = "import os, pathlib; pathlib.Path(os.environ['SAID']).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"


def submit(store: Store, **changes: Any) -> int:
    set_id = store.add_problem_set(load_problem_set("bundled:sums"), "bundled:sums")
    return store.submit_run(parse_config(SMALL).with_changes(**changes), str(changes), set_id)


def run_of(store: Store, run_id: int) -> RunRow:
    run = store.run(run_id)
    assert run is not None
    return run


def ranks_of(run: RunRow) -> list[psutil.Process]:
    if run.job.pid is None:
        return []
    children = psutil.Process(run.job.pid).children(recursive=True)
    return [child for child in children if "worker.child" in child.cmdline()]


def test_a_killed_process_sends_the_run_back_to_go_on_from_its_checkpoint_and_a_pause_ends_them_all(
    store: Store, settings: Settings
) -> None:
    run_id = submit(store)
    supervisor = Supervisor(store, settings.model_copy(update={"grace_s": 20.0}), "this worker")
    thread = threading.Thread(target=supervisor.serve)
    thread.start()
    try:
        wait_until(lambda: run_of(store, run_id).step >= 1, "a step", 90.0)
        both = ranks_of(run_of(store, run_id))
        assert len(both) == 2
        both[1].kill()
        wait_until(lambda: run_of(store, run_id).job.attempt == 2, "a second attempt", 30.0)
        assert "SIGKILL" in " ".join(move.reason or "" for move in store.history(run_of(store, run_id).job_id))
        assert not any(process.is_running() for process in both)
        before = run_of(store, run_id).step
        wait_until(lambda: run_of(store, run_id).step > before, "another step", 90.0)
        both = ranks_of(run_of(store, run_id))
        store.request_pause(run_of(store, run_id).job_id)
        wait_until(lambda: run_of(store, run_id).state is JobState.PAUSED, "the pause", 15.0)
        assert len(both) == 2
        assert not any(process.is_running() for process in both)
    finally:
        supervisor.stopping.set()
        supervisor.hurry.set()
        thread.join(20.0)


def test_a_run_gets_as_many_gpus_as_it_asks_for(store: Store, settings: Settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    submit(store, **{"hardware.device": "auto"})
    supervisor = Supervisor(
        store, settings, "this worker", ("GPU-a", "GPU-b", "GPU-c"), (sys.executable, "-c", SAYS_ITS_GPUS)
    )
    supervisor.serve()
    assert (tmp_path / "said").read_text() == "GPU-a,GPU-b"
    assert supervisor.num_free() == 3


def test_a_run_that_asks_for_more_gpus_than_there_are_fails_and_says_so(store: Store, settings: Settings) -> None:
    run_id = submit(store, **{"hardware.device": "auto", "hardware.gpus": 4})
    Supervisor(store, settings, "this worker", ("GPU-a", "GPU-b"), (sys.executable, "-c", "")).serve()
    run = run_of(store, run_id)
    assert (run.state, run.job.error_kind) == (JobState.FAILED, "no_gpu")
    assert "asks for 4 GPUs and this worker has 2" in (run.job.error_message or "")


def test_a_run_that_waits_for_a_gpu_can_be_cancelled(store: Store, settings: Settings) -> None:
    run_id = submit(store, **{"hardware.device": "auto"})
    supervisor = Supervisor(store, settings, "this worker", ("GPU-a", "GPU-b"), (sys.executable, "-c", ""))
    busy = supervisor._slots.get()
    thread = threading.Thread(target=supervisor.serve)
    thread.start()
    wait_until(lambda: run_of(store, run_id).state is JobState.STARTING, "the claim")
    store.request_cancel(run_of(store, run_id).job_id)
    wait_until(lambda: run_of(store, run_id).state is JobState.STOPPED, "the cancel")
    supervisor._slots.put(busy)
    thread.join(10.0)
    assert supervisor.num_free() == 2


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))
