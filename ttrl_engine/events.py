"""What a run reports: facts in the past tense, flat, JSON-ready. The engine emits them; it knows no store and no page.

Every number that compares with a reference answer is `None` where no reference exists: unknown is never 0.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias


class Phase(enum.StrEnum):
    """What the run is doing right now."""

    LOADING = "loading"
    EVALUATING = "evaluating"
    SAMPLING = "sampling"
    VOTING = "voting"
    UPDATING = "updating"
    SAVING = "saving"


class Ending(enum.StrEnum):
    """Why a run ended in good order; a run that cannot go on raises `RunError` instead."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    ALARM = "alarm"


class Split(enum.StrEnum):
    """Which problems a number speaks about."""

    ADAPT = "adapt"
    HELD_OUT = "held_out"
    BENCHMARK = "benchmark"


@dataclass(frozen=True)
class Event:
    """Base of all events. `kind` is the wire name."""

    kind: ClassVar[str]

    def as_dict(self) -> dict[str, Any]:
        """The event as plain data, `kind` first: one JSON line of `ttrl-studio run --json`."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """Model and problems are loaded; the first (or, after a resume, the next) step is about to begin."""

    kind: ClassVar[str] = "run_started"
    model: str
    num_parameters: int
    num_trainable: int
    device: str
    sampler: str
    threads: int
    num_adapt: int
    num_held_out: int
    first_step: int
    total_steps: int


@dataclass(frozen=True)
class Progressed(Event):
    """A phase moved on: `done` of `total` units (rollouts, problems, rows). Transient; only the newest counts."""

    kind: ClassVar[str] = "progressed"
    step: int
    phase: Phase
    done: int
    total: int


@dataclass(frozen=True)
class ClassCount:
    """One answer class of an election: its shown spelling, its votes, and whether it equals the reference."""

    answer: str
    count: int
    correct: bool | None


@dataclass(frozen=True)
class ElectionHeld(Event):
    """The rollouts of one problem voted.

    consensus = share of all N rollouts in the winning class (unparsable ones count in N).
    `classes` holds the largest classes first, at most 12. `label` is None where the election abstained.
    """

    kind: ClassVar[str] = "election_held"
    step: int
    problem_id: str
    label: str | None
    abstained: str | None
    consensus: float
    margin: float
    num_rollouts: int
    num_classes: int
    num_unparsed: int
    num_truncated: int
    classes: tuple[ClassCount, ...]
    reward_mean: float
    label_correct: bool | None
    reward_accuracy: float | None
    truth_share: float | None


@dataclass(frozen=True)
class StepFinished(Event):
    """The optimizer step is applied and its metrics are final.

    `metrics` maps the names of `ttrl_engine.metrics.METRICS` to values; a name whose value is unknown is left out.
    `seconds` maps each phase to its wall seconds in this step; evaluations report their own.
    """

    kind: ClassVar[str] = "step_finished"
    step: int
    total_steps: int
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class ProblemScore:
    """How one problem did in one evaluation: `num_correct` of `num_samples`, and the vote of those samples.

    num_unparsed = samples without a readable answer, num_truncated = samples cut at the longest length (both may hold
    the same sample); mean_length in tokens. None where an older version scored it, which did not count them.
    """

    problem_id: str
    num_samples: int
    num_correct: int
    maj_answer: str | None
    maj_correct: bool
    num_unparsed: int | None = None
    num_truncated: int | None = None
    mean_length: float | None = None


@dataclass(frozen=True)
class EvaluationFinished(Event):
    """A policy was scored on the labelled problems of one split. Step 0 is the base model.

    Rates are means over problems; the intervals are 95 % over problems (`ttrl_engine.stats`). `gain` is paired with
    step 0 and None there. `problem_set` names the set; n = len(scores) problems with `num_samples` rollouts each.
    """

    kind: ClassVar[str] = "evaluation_finished"
    step: int
    split: Split
    problem_set: str
    num_samples: int
    avg: float
    avg_low: float
    avg_high: float
    maj: float
    maj_low: float
    maj_high: float
    pass_k: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    mean_length: float
    truncated: float
    scores: tuple[ProblemScore, ...]
    from_cache: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class HeldOutPolled(Event):
    """A policy answered held-out problems and the answers were held against each other, never against references.

    `metrics` maps the names `held_out_*` of `ttrl_engine.metrics.METRICS` to values. `seconds` is the wall time where
    the problems were asked for this alone, and 0 where an evaluation asked them and tells its own.
    """

    kind: ClassVar[str] = "held_out_polled"
    step: int
    num_problems: int
    num_samples: int
    metrics: Mapping[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is complete on disk (written beside, then renamed). A run killed now resumes from it."""

    kind: ClassVar[str] = "checkpoint_saved"
    step: int
    path: str


@dataclass(frozen=True)
class AlarmRaised(Event):
    """A safeguard fired: what was seen, at which step, and what is done about it (`note`, `pause`, `roll_back`)."""

    kind: ClassVar[str] = "alarm_raised"
    step: int
    alarm: str
    message: str
    value: float
    threshold: float
    action: str


@dataclass(frozen=True)
class Noted(Event):
    """Something worth telling that is not a metric: a batch budget halved, a fallback taken, a resume."""

    kind: ClassVar[str] = "noted"
    step: int
    level: str
    message: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run ended in good order and its policy is saved at `policy_path` (None where no step was finished)."""

    kind: ClassVar[str] = "run_finished"
    ending: Ending
    step: int
    policy_path: str | None


Emit: TypeAlias = Callable[[Event], None]
