"""One child process per job: how it ends, by itself and when asked."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from tests.worker.conftest import HERE
from tests.worker.measured import measured
from tests.worker.waiting import wait_until
from worker.rows import RunRow
from worker.settings import Settings
from worker.states import JobState
from worker.store import Store
from worker.supervisor import Supervisor


def _run(store: Store, run_id: int) -> RunRow:
    run = store.run(run_id)
    assert run is not None
    return run


@pytest.fixture
def serving(supervisor: Supervisor):
    """Serve in a thread, as the consumer does; at the end of the test whatever still computes is killed."""
    threads: list[threading.Thread] = []

    def _serve() -> threading.Thread:
        thread = threading.Thread(target=supervisor.serve)
        thread.start()
        threads.append(thread)
        return thread

    yield _serve
    supervisor.stopping.set()
    supervisor.hurry.set()
    for thread in threads:
        thread.join(20.0)


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_job_is_computed_and_finished_when_its_result_is_there(store: Store, submit, supervisor: Supervisor):
    run_id = submit("fine", max_steps=4)
    supervisor.serve()
    run = _run(store, run_id)
    assert (run.state, run.step, run.progress) == (JobState.FINISHED, 4, 1.0)
    assert (store.run_folder(run_id) / "config.yaml").read_text().startswith("name: fine")
    assert "attempt 1" in store.log_tail(run_id)
    assert store.base_score("base") == {"scores": []}
    assert [move.to_state for move in store.history(run.job_id)] == ["queued", "starting", "running", "finished"]
    assert (run.job.pid, run.phase, run.job.finished_at is not None) == (None, None, True)


def test_several_jobs_are_computed_one_after_the_other(store: Store, submit, supervisor: Supervisor):
    runs = [submit(), submit()]
    supervisor.serve()
    assert [_run(store, run_id).state for run_id in runs] == [JobState.FINISHED] * 2
    assert store.claim_next("w") is None


def test_a_comparison_is_computed(store: Store, submit, supervisor: Supervisor):
    run_id = submit()
    supervisor.serve()
    comparison_id = store.submit_comparison(run_id, "1 + 1?", "c", num_samples=2)
    supervisor.serve()
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert comparison.state is JobState.FINISHED
    assert comparison.result == {
        "base": {"label": "1"},
        "adapted": {"label": "2"},
        "problem": "1 + 1?",
        "weights": "policy",
    }
    assert (comparison.done, comparison.total) == (4, 4)


def test_a_comparison_without_weights_says_so(store: Store, submit, supervisor: Supervisor):
    comparison_id = store.submit_comparison(submit(), "1 + 1?", "c")
    store.request_pause(store.queue()[1].id)
    supervisor.serve()
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert comparison.state is JobState.FAILED
    assert "saved no weights yet" in (comparison.job.error_message or "")


def test_a_job_that_fails_tells_why_and_what_to_do(store: Store, submit, supervisor: Supervisor):
    run_id = submit("oom@2")
    supervisor.serve()
    job = _run(store, run_id).job
    assert (job.state, job.error_kind) == (JobState.FAILED, "out_of_memory")
    assert "Lower the votes" in (job.error_hint or "")
    assert "MemoryError" in (job.error_trace or "")
    assert _run(store, run_id).step == 2


def test_a_job_that_leaves_no_word_fails_by_its_exit_code(store: Store, submit, supervisor: Supervisor):
    run_id = submit("exit@1")
    supervisor.serve()
    job = _run(store, run_id).job
    assert (job.state, job.error_kind) == (JobState.FAILED, "unknown")
    assert "exit code 5" in (job.error_message or "")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_job_goes_on_from_its_checkpoint(store: Store, submit, supervisor: Supervisor, step):
    run_id, never_killed = submit(f"kill_once@{step}", max_steps=5), submit("fine", max_steps=5)
    supervisor.serve()
    run = _run(store, run_id)
    assert (run.state, run.job.attempt, run.step) == (JobState.FINISHED, 2, 5)
    assert [row.step for row in store.checkpoints(run_id)] == [2, 4, 5]
    assert measured(store, run_id) == measured(store, never_killed)


def test_a_job_that_is_killed_every_time_is_given_up(store: Store, submit, supervisor: Supervisor):
    run_id = submit("kill@1", save_every=100)
    supervisor.serve()
    job = _run(store, run_id).job
    assert (job.state, job.error_kind, job.attempt) == (JobState.FAILED, "killed", 3)
    assert "without a new step" in (job.error_message or "")


@pytest.mark.parametrize(("action", "state"), [("alarm", JobState.PAUSED), ("roll_back", JobState.FINISHED)])
def test_an_alarm_pauses_or_ends_the_run(store: Store, submit, supervisor: Supervisor, action, state):
    run_id = submit(f"{action}@2", max_steps=4)
    supervisor.serve()
    run = _run(store, run_id)
    assert (run.state, run.step) == (state, 2)
    assert run.job.reason == "Nearly all problems elect the same answer."
    if state is JobState.PAUSED:
        store.request_resume(run.job_id)
        supervisor.serve()
        assert (_run(store, run_id).state, _run(store, run_id).step) == (JobState.FINISHED, 4)


def test_a_running_job_is_paused_and_goes_on_where_it_was(store: Store, submit, supervisor: Supervisor, serving):
    run_id = submit("sleep=0.05", max_steps=40, save_every=100)
    thread = serving()
    wait_until(lambda: _run(store, run_id).step >= 2, "the first steps")
    assert store.request_pause(_run(store, run_id).job_id) is JobState.PAUSING
    thread.join(10.0)
    paused = _run(store, run_id)
    assert paused.state is JobState.PAUSED
    assert 2 <= paused.step < 40
    assert [row.step for row in store.checkpoints(run_id)] == [paused.step]
    store.request_resume(paused.job_id)
    serving().join(20.0)
    assert (_run(store, run_id).state, _run(store, run_id).step) == (JobState.FINISHED, 40)
    fine = submit("fine", max_steps=40)
    supervisor.serve()
    assert measured(store, run_id) == measured(store, fine)


def test_a_running_job_is_cancelled_and_keeps_what_it_saved(store: Store, submit, serving):
    run_id = submit("sleep=0.05", max_steps=1000)
    thread = serving()
    wait_until(lambda: _run(store, run_id).step >= 2, "the first steps")
    pid = _run(store, run_id).job.pid
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)
    store.request_cancel(_run(store, run_id).job_id)
    thread.join(10.0)
    assert _run(store, run_id).state is JobState.STOPPED
    assert _gone(pid)
    assert store.checkpoints(run_id)


def test_a_job_that_will_not_hear_is_killed(store: Store, submit, settings: Settings, set_id):
    quick = settings.model_copy(update={"grace_s": 0.5})
    supervisor = Supervisor(store, quick, "impatient", child=(sys.executable, str(HERE / "scripted_child.py")))
    run_id = submit("stubborn=1 sleep=0.05", max_steps=1000)
    thread = threading.Thread(target=supervisor.serve)
    thread.start()
    wait_until(lambda: _run(store, run_id).step >= 1, "the first step")
    pid = _run(store, run_id).job.pid
    store.request_cancel(_run(store, run_id).job_id)
    thread.join(10.0)
    assert not thread.is_alive()
    assert _run(store, run_id).state is JobState.STOPPED
    assert pid is not None
    assert _gone(pid)


def test_a_worker_that_stops_sends_its_job_back(store: Store, submit, supervisor: Supervisor, serving):
    run_id = submit("sleep=0.05", max_steps=1000)
    thread = serving()
    wait_until(lambda: _run(store, run_id).step >= 2, "the first steps")
    supervisor.stopping.set()
    thread.join(10.0)
    job = _run(store, run_id).job
    assert (job.state, job.crashes) == (JobState.QUEUED, 0)
    assert store.checkpoints(run_id)[-1].step == _run(store, run_id).step


def test_a_job_that_takes_too_long_is_ended(store: Store, submit, settings: Settings):
    limited = settings.model_copy(update={"time_limit_s": 1.5})
    supervisor = Supervisor(store, limited, "w", child=(sys.executable, str(HERE / "scripted_child.py")))
    run_id = submit("sleep=0.05", max_steps=1000)
    supervisor.serve()
    job = _run(store, run_id).job
    assert (job.state, job.error_kind) == (JobState.FAILED, "time_out")


def test_a_job_is_not_started_on_a_full_disk(store: Store, submit, supervisor: Supervisor, monkeypatch):
    monkeypatch.setenv("TTRL_STUDIO_MIN_FREE_BYTES", str(2**60))
    run_id = submit()
    supervisor.serve()
    job = _run(store, run_id).job
    assert (job.state, job.error_kind) == (JobState.FAILED, "disk_full")


def test_an_end_that_cannot_be_written_is_written_later(store: Store, submit, supervisor: Supervisor, monkeypatch):
    run_id = submit(max_steps=1)
    failures = iter([sqlite3.OperationalError("database or disk is full")])
    let_go = store.let_go

    def let_go_later(*arguments):
        for failure in failures:
            raise failure
        return let_go(*arguments)

    monkeypatch.setattr(store, "let_go", let_go_later)
    (store.data_dir / "reserve").write_bytes(b"0")
    supervisor.serve()
    assert _run(store, run_id).state is JobState.FINISHED
    assert not (store.data_dir / "reserve").exists()


def test_a_program_that_is_not_there_fails_the_job(store: Store, submit, settings: Settings):
    run_id = submit()
    Supervisor(store, settings, "w", child=("/nowhere/python",)).serve()
    assert _run(store, run_id).state is JobState.FAILED
