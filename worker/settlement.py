"""What becomes of a job whose process has ended: one pure function of what is known."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from worker.failures import Failure, classify_exit, failure
from worker.rows import JobRow
from worker.states import Intent, JobState, Outcome


class Cause(enum.StrEnum):
    """Why the process ended, as far as the worker had a hand in it."""

    ITSELF = "itself"
    ASKED = "asked"
    WORKER_STOPS = "worker_stops"
    TIME_LIMIT = "time_limit"
    WORKER_LOST = "worker_lost"


@dataclass(frozen=True)
class Verdict:
    """The state to go to, the sentence that explains it, and the count of crashes without a new step."""

    state: JobState
    reason: str
    failure: Failure | None = None
    crashes: int | None = None


def settle(job: JobRow, cause: Cause, exit_code: int | None, step: int, log_tail: str, max_crashes: int) -> Verdict:
    """Where the job goes now that its process is gone. `step` is the last finished step of its run.

    The process's own word (`job.outcome`) comes first, then what the person wants, then how it died.
    """
    said = None if job.outcome is None else Outcome(job.outcome)
    if said is Outcome.COMPLETED:
        return Verdict(JobState.FINISHED, "Done.")
    if said is Outcome.ROLLED_BACK:
        return Verdict(JobState.FINISHED, job.reason or "A safeguard has ended the run at its last healthy checkpoint.")
    if said is Outcome.FAILED:
        return Verdict(JobState.FAILED, job.error_message or "The job has failed.")
    # `stopping` may already stand although the intent was asked a moment after the process had gone: both agree.
    if job.intent is Intent.CANCEL:
        return Verdict(JobState.STOPPED, "Cancelled; what was saved stays.")
    if said is Outcome.ALARM and job.state in (JobState.RUNNING, JobState.STARTING):
        return Verdict(JobState.PAUSED, job.reason or "A safeguard has paused the run.")
    if job.intent is Intent.PAUSE:
        return Verdict(JobState.PAUSED, "Paused; resume goes on from the last checkpoint.")
    if cause is Cause.TIME_LIMIT:
        return Verdict(JobState.FAILED, "The time limit was reached.", failure("time_out"))
    if cause is Cause.WORKER_STOPS:
        return Verdict(JobState.QUEUED, "The worker stopped; the job goes on when it is back.")
    if cause is Cause.WORKER_LOST:
        return _crashed(job, JobState.LOST, "The worker was lost.", step, max_crashes, None)
    if said is Outcome.STOPPED:
        return _crashed(job, JobState.FAILED, "The process was asked to end from outside.", step, max_crashes, None)
    found = classify_exit(exit_code, log_tail)
    if exit_code is not None and exit_code < 0:
        return _crashed(job, JobState.FAILED, found.message, step, max_crashes, found)
    return Verdict(JobState.FAILED, found.message, found)


def _crashed(job: JobRow, given_up: JobState, what: str, step: int, max_crashes: int, found: Failure | None) -> Verdict:
    """Back into the queue, unless this is the `max_crashes`-th end in a row that brought no new step."""
    crashes = 1 if step > job.crash_step else job.crashes + 1
    if crashes < max_crashes:
        return Verdict(JobState.QUEUED, f"{what} It goes on from the last checkpoint.", crashes=crashes)
    found = found or failure("killed", what)
    reason = f"{what} Given up after {crashes} attempts without a new step."
    return Verdict(given_up, reason, Failure(found.kind, reason, found.hint), crashes=crashes)
