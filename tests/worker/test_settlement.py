"""What becomes of a job whose process has ended."""

from __future__ import annotations

import dataclasses

import pytest

from worker.settlement import Cause, Verdict, settle
from worker.states import Intent, JobState, Outcome
from worker.store import Store


@pytest.fixture
def job(store: Store, submit):
    submit()
    claim = store.claim_next("w")
    assert claim is not None
    return store.job(claim.job_id)


def _settle(job, cause=Cause.ITSELF, exit_code=0, step=0, log_tail="", max_crashes=3, **changes) -> Verdict:
    return settle(dataclasses.replace(job, **changes), cause, exit_code, step, log_tail, max_crashes)


@pytest.mark.parametrize(
    ("outcome", "intent", "cause", "exit_code", "state"),
    [
        (Outcome.COMPLETED, "run", Cause.ITSELF, 0, JobState.FINISHED),
        # It was done before it heard.
        (Outcome.COMPLETED, "cancel", Cause.ASKED, 0, JobState.FINISHED),
        (Outcome.COMPLETED, "run", Cause.WORKER_LOST, None, JobState.FINISHED),
        (Outcome.ROLLED_BACK, "run", Cause.ITSELF, 0, JobState.FINISHED),
        (Outcome.FAILED, "run", Cause.ITSELF, 1, JobState.FAILED),
        (Outcome.STOPPED, "cancel", Cause.ASKED, 0, JobState.STOPPED),
        (Outcome.STOPPED, "pause", Cause.ASKED, 0, JobState.PAUSED),
        (Outcome.STOPPED, "run", Cause.WORKER_STOPS, 0, JobState.QUEUED),
        (Outcome.STOPPED, "run", Cause.WORKER_LOST, None, JobState.QUEUED),
        # Somebody else sent it SIGTERM.
        (Outcome.STOPPED, "run", Cause.ITSELF, 0, JobState.QUEUED),
        (Outcome.STOPPED, "run", Cause.TIME_LIMIT, 0, JobState.FAILED),
        (Outcome.ALARM, "run", Cause.ITSELF, 0, JobState.PAUSED),
        (Outcome.ALARM, "cancel", Cause.ASKED, 0, JobState.STOPPED),
        (None, "cancel", Cause.ASKED, -9, JobState.STOPPED),
        (None, "pause", Cause.ASKED, -9, JobState.PAUSED),
        (None, "run", Cause.WORKER_STOPS, -9, JobState.QUEUED),
        (None, "cancel", Cause.WORKER_LOST, None, JobState.STOPPED),
        (None, "pause", Cause.WORKER_LOST, None, JobState.PAUSED),
        (None, "run", Cause.WORKER_LOST, None, JobState.QUEUED),
        (None, "run", Cause.ITSELF, -9, JobState.QUEUED),
        (None, "run", Cause.ITSELF, 5, JobState.FAILED),
        (None, "run", Cause.ITSELF, 0, JobState.FAILED),
    ],
)
def test_each_ending_has_its_state(job, outcome, intent, cause, exit_code, state):
    verdict = _settle(job, cause, exit_code, outcome=outcome, intent=Intent(intent), state=JobState.RUNNING)
    assert verdict.state is state
    assert verdict.reason


def test_a_job_that_only_crashes_is_given_up(job):
    crashes, crash_step, states = 0, -1, []
    for _ in range(3):
        verdict = _settle(job, exit_code=-9, step=4, crashes=crashes, crash_step=crash_step)
        crashes, crash_step = verdict.crashes or 0, 4
        states.append(verdict.state)
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert verdict.failure is not None
    assert verdict.failure.kind == "killed"
    assert "3 attempts without a new step" in verdict.failure.message


def test_a_job_that_gets_on_between_crashes_is_not_given_up(job):
    crashes, crash_step = 0, -1
    for step in range(1, 10):
        verdict = _settle(job, exit_code=-9, step=step, crashes=crashes, crash_step=crash_step)
        assert (verdict.state, verdict.crashes) == (JobState.QUEUED, 1)
        crashes, crash_step = verdict.crashes or 0, step


def test_a_job_whose_worker_is_lost_again_and_again_is_lost(job):
    verdict = _settle(job, Cause.WORKER_LOST, None, step=4, crashes=2, crash_step=4)
    assert verdict.state is JobState.LOST
    assert verdict.failure is not None


def test_the_log_tells_what_a_silent_process_died_of(job):
    verdict = _settle(job, exit_code=1, log_tail="OSError: [Errno 28] No space left on device")
    assert verdict.failure is not None
    assert verdict.failure.kind == "disk_full"
