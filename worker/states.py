"""The states of a job and the only moves between them. What a person asked for is an intent, never a state."""

from __future__ import annotations

import enum
from types import MappingProxyType


class JobState(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"


class Intent(enum.StrEnum):
    """What the person wants of a job. The worker brings the state there."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"
    ROLL_BACK = "roll_back"


class Outcome(enum.StrEnum):
    """How the engine process says it ended; its last word before it exits. A killed process says nothing."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    ALARM = "alarm"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


UNDISTURBED = frozenset({Intent.RUN, Intent.ROLL_BACK})
"""The process is to do its work to the end: the run's, or to make a healthy checkpoint the result."""

S = JobState

# A worker that shuts down, or dies, sends its jobs back to `queued`; they go on from their last checkpoint.
TRANSITIONS: MappingProxyType[JobState, frozenset[JobState]] = MappingProxyType(
    {
        S.QUEUED: frozenset({S.STARTING, S.PAUSED, S.STOPPED}),
        S.STARTING: frozenset({S.RUNNING, S.PAUSING, S.STOPPING, S.QUEUED, S.PAUSED, S.FINISHED, S.FAILED, S.LOST}),
        S.RUNNING: frozenset({S.PAUSING, S.STOPPING, S.QUEUED, S.PAUSED, S.FINISHED, S.FAILED, S.LOST}),
        S.PAUSING: frozenset({S.PAUSED, S.STOPPING, S.FINISHED, S.FAILED, S.LOST}),
        S.STOPPING: frozenset({S.STOPPED, S.FINISHED, S.FAILED, S.LOST}),
        S.PAUSED: frozenset({S.QUEUED, S.STOPPED}),
        S.STOPPED: frozenset({S.QUEUED}),
        S.FAILED: frozenset({S.QUEUED}),
        S.LOST: frozenset({S.QUEUED}),
        S.FINISHED: frozenset(),
    }
)

ACTIVE = frozenset({S.STARTING, S.RUNNING, S.PAUSING, S.STOPPING})
"""A worker holds the job: there is, or should be, a process."""

TERMINAL = frozenset({S.FINISHED, S.STOPPED, S.FAILED, S.LOST})
"""Nothing more happens unless a person asks for it."""

RESUMABLE = frozenset({S.PAUSED, S.STOPPED, S.FAILED, S.LOST})
"""A person can send the job back into the queue; it goes on from its last checkpoint."""


def can_move(before: JobState, after: JobState) -> bool:
    """Whether the table allows this move."""
    return after in TRANSITIONS[before]
