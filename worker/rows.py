"""What the store hands out: frozen rows, times in unix seconds, `None` for what is not known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ttrl_engine.config import AnswerConfig, RunConfig, TaskKind, parse_config
from ttrl_engine.preflight import Findings
from worker.states import ACTIVE, RESUMABLE, TERMINAL, Intent, JobState

BlindSaid: TypeAlias = Literal["left", "right", "tie", "both_bad"]
SpotSaid: TypeAlias = Literal["answer", "right", "wrong", "skip"]
JobKind: TypeAlias = Literal["run", "compare", "export", "preflight"]

SeriesPoint: TypeAlias = tuple[int, float | None, float | None, float | None]
"""(step, mean, least, greatest) of one bucket of steps; all three are None where every value was not a number."""


@dataclass(frozen=True)
class ProblemSetRow:
    """A stored problem set without its problems. `rule` is what a person saved about its answers."""

    id: str
    name: str
    kind: TaskKind
    num_problems: int
    num_references: int
    source: str
    created_at: float
    notes: dict[str, Any]
    archived: bool
    rule: AnswerConfig
    num_runs: int

    @property
    def answers(self) -> AnswerConfig:
        """How answers to this set are read and compared where a run does not say otherwise; its kind is set."""
        return self.rule.over(AnswerConfig(kind=self.kind))


@dataclass(frozen=True)
class ProblemRow:
    """One problem of a set; `idx` counts from 0 in the order of the file."""

    idx: int
    problem_id: str
    prompt: str
    reference: str | None
    choices: tuple[str, ...]


@dataclass(frozen=True)
class JobRow:
    """A job of any kind. `subject_id` is the id of its run, comparison, export or check, `title` what lists call it.
    `intent_step` is the checkpoint that a roll-back is to end at; where it is None, that is the last healthy one."""

    id: int
    kind: JobKind
    state: JobState
    intent: Intent
    position: float
    attempt: int
    worker: str | None
    pid: int | None
    pgid: int | None
    gpu: str | None
    heartbeat_at: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    outcome: str | None
    reason: str | None
    error_kind: str | None
    error_message: str | None
    error_hint: str | None
    error_trace: str | None
    resumes: int
    crashes: int
    crash_step: int
    intent_step: int | None
    subject_id: int
    title: str

    @property
    def is_active(self) -> bool:
        """A worker holds it."""
        return self.state in ACTIVE

    @property
    def is_terminal(self) -> bool:
        """Nothing more happens unless a person asks for it."""
        return self.state in TERMINAL

    @property
    def can_resume(self) -> bool:
        """A person can send it back into the queue."""
        return self.state in RESUMABLE

    def silent_s(self, now: float) -> float | None:
        """Seconds since the last sign of life of an active job; None while nothing is expected to be heard."""
        if not self.is_active or self.heartbeat_at is None:
            return None
        return max(0.0, now - self.heartbeat_at)


@dataclass(frozen=True)
class RunRow:
    """A run and its job. The job's columns are under `job`; the most used are repeated as properties."""

    id: int
    job: JobRow
    client_id: str
    name: str
    config_json: str = field(repr=False)
    config_digest: str
    set_id: str
    set_name: str
    set_num_references: int
    data_hash: str
    versions_json: str = field(repr=False)
    seed: int
    parent_run_id: int | None
    model: str
    created_at: float
    num_parameters: int | None
    num_trainable: int | None
    num_adapt: int | None
    num_held_out: int | None
    sampler: str | None
    device: str | None
    threads: int | None
    step: int
    total_steps: int | None
    phase: str | None
    phase_step: int | None
    phase_done: int | None
    phase_total: int | None
    eta_low_s: float | None
    eta_high_s: float | None
    last_event_at: float | None
    policy_path: str | None
    archived: bool
    note: str

    @property
    def job_id(self) -> int:
        """The job that computes this run."""
        return self.job.id

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self.job.state

    @property
    def config(self) -> RunConfig:
        """The config as it was frozen with the run."""
        return parse_config(json.loads(self.config_json))

    @property
    def versions(self) -> dict[str, str]:
        """Package name -> version at the time the run was submitted."""
        return {str(name): str(version) for name, version in json.loads(self.versions_json).items()}

    @property
    def progress(self) -> float | None:
        """Share of the steps that are done; 1 only when the run is finished. None before the total is known."""
        if self.state is JobState.FINISHED:
            return 1.0
        if not self.total_steps:
            return None
        return min(self.step / self.total_steps, 0.99)


@dataclass(frozen=True)
class RunSummary:
    """The few numbers a list of runs shows; pass@1 and gain are of the newest evaluation of the split that
    is not of a step after the one that the run was rolled back to."""

    run_id: int
    consensus_first: float | None
    consensus_last: float | None
    label_accuracy_last: float | None
    num_alarms: int
    evaluations: tuple[EvaluationRow, ...]


@dataclass(frozen=True)
class ClassCountRow:
    """One answer class of an election."""

    answer: str
    count: int
    correct: bool | None


@dataclass(frozen=True)
class ElectionRow:
    """The vote of one problem at one step."""

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
    classes: tuple[ClassCountRow, ...]
    reward_mean: float | None
    label_correct: bool | None
    reward_accuracy: float | None
    truth_share: float | None


@dataclass(frozen=True)
class LabelRow:
    """What one problem elected at one step, in short."""

    step: int
    problem_id: str
    label: str | None
    consensus: float
    label_correct: bool | None


@dataclass(frozen=True)
class ProblemOverviewRow:
    """One problem of a run over all its elections.

    `flips` counts changes from one elected label to a different one; abstentions in between are passed over. `idx` is
    its place in the set, from 0.
    """

    problem_id: str
    prompt: str
    reference: str | None
    num_elections: int
    last_step: int
    last_label: str | None
    first_label: str | None
    consensus_first: float
    consensus_last: float
    margin_last: float
    flips: int
    label_correct: bool | None
    idx: int | None = None


@dataclass(frozen=True)
class LabelFlipRow:
    """A problem whose elected label differs from the one elected before it; `kind` is a field of LabelFlipCounts."""

    problem_id: str
    prompt: str
    step_before: int
    step: int
    label_before: str
    label: str
    consensus_before: float
    consensus: float
    kind: str


@dataclass(frozen=True)
class LabelFlipCounts:
    """Changes of pseudo-labels by what they did; `unknown` are those without a reference answer."""

    rescue: int = 0
    harm: int = 0
    both_wrong: int = 0
    both_right: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.rescue + self.harm + self.both_wrong + self.both_right + self.unknown

    @property
    def net(self) -> int | None:
        """Rescues minus harm; None where no change could be judged."""
        return self.rescue - self.harm if self.total > self.unknown else None


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation; `num_problems` is its n. Step 0 is the base model, whose gain is None."""

    run_id: int
    step: int
    split: str
    problem_set: str
    num_problems: int
    num_samples: int
    avg: float | None
    avg_low: float | None
    avg_high: float | None
    maj: float | None
    maj_low: float | None
    maj_high: float | None
    pass_k: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    mean_length: float | None
    truncated: float | None
    from_cache: bool


@dataclass(frozen=True)
class ScoreRow:
    """One problem of one evaluation; the last three are None where an older version scored it."""

    problem_id: str
    num_samples: int
    num_correct: int
    maj_answer: str | None
    maj_correct: bool
    num_unparsed: int | None = None
    num_truncated: int | None = None
    mean_length: float | None = None


@dataclass(frozen=True)
class AlarmRow:
    """A safeguard that fired."""

    id: int
    run_id: int
    step: int
    alarm: str
    message: str
    value: float | None
    threshold: float | None
    action: str
    at: float


@dataclass(frozen=True)
class NoteRow:
    """Something told that is not a metric."""

    id: int
    run_id: int
    step: int
    level: str
    message: str
    at: float


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint as it was reported; old ones may since have been removed from disk."""

    run_id: int
    step: int
    path: str
    at: float


@dataclass(frozen=True)
class HistoryRow:
    """One move of a job from state to state."""

    id: int
    job_id: int
    at: float
    from_state: JobState | None
    to_state: JobState
    reason: str


@dataclass(frozen=True)
class ComparisonRow:
    """A comparison of base and adapted answers, and its job: to one prompt, or to problems of a set, where `set_id` and
    `problem_ids` are given and `prompt` is empty."""

    id: int
    job: JobRow
    client_id: str
    run_id: int
    step: int | None
    prompt: str
    problem_id: str | None
    num_samples: int
    temperature: float
    max_new_tokens: int
    seed: int
    done: int | None
    total: int | None
    result_json: str | None = field(repr=False)
    created_at: float
    partial_json: str | None = field(repr=False, default=None)
    set_id: str | None = None
    problem_ids: tuple[str, ...] = ()

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self.job.state

    @property
    def partial(self) -> dict[str, Any]:
        """The sides as far as they have come, by name, as `ttrl_engine.compare.answer_both` tells them."""
        value: dict[str, Any] = json.loads(self.partial_json or "{}")
        return value

    @property
    def result(self) -> dict[str, Any] | None:
        """What the engine answered; None until it is there."""
        if self.result_json is None:
            return None
        value: dict[str, Any] = json.loads(self.result_json)
        return value


@dataclass(frozen=True)
class SideRow:
    """How the answers of one side of a comparison over a set voted on one problem; `label` None where nothing won."""

    problem_id: str
    side: Literal["base", "adapted"]
    label: str | None
    consensus: float
    mean_length: float
    num_samples: int


@dataclass(frozen=True)
class BlindSessionRow:
    """A person's blind judgement of the answers of a comparison. Once it has ended, nothing is added or taken back."""

    id: int
    comparison_id: int
    seed: int
    created_at: float
    ended_at: float | None


@dataclass(frozen=True)
class BlindVoteRow:
    """Which answer to a problem is better, by its place on the page."""

    id: int
    session_id: int
    problem_id: str
    said: BlindSaid
    at: float


@dataclass(frozen=True)
class ExportRow:
    """A merged model that was asked for, and its job. `done` of `total` counts the stages of the work."""

    id: int
    job: JobRow
    client_id: str
    run_id: int
    phase: str | None
    done: int | None
    total: int | None
    created_at: float

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self.job.state


@dataclass(frozen=True)
class PreflightRow:
    """A check before a run, and its job. `done` of `total` counts answers; `key` names what was checked."""

    id: int
    job: JobRow
    key: str
    set_id: str
    set_name: str
    config_json: str = field(repr=False)
    done: int | None
    total: int | None
    result_json: str | None = field(repr=False)
    created_at: float

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self.job.state

    @property
    def config(self) -> RunConfig:
        """The config of the run that is asked about."""
        return parse_config(json.loads(self.config_json))

    @property
    def findings(self) -> Findings | None:
        """What was seen; None until it is there."""
        return None if self.result_json is None else Findings.from_dict(json.loads(self.result_json))


@dataclass(frozen=True)
class DeliveryRow:
    """A message for one webhook: `waiting` until it is `sent` or, after the last attempt, `failed`.

    `key` names what happened: no webhook is told the same twice.
    """

    id: int
    webhook_id: str
    run_id: int
    event: str
    key: str
    message_json: str = field(repr=False)
    state: str
    attempts: int
    next_at: float
    error: str | None
    created_at: float
    sent_at: float | None


@dataclass(frozen=True)
class SpotCheckRow:
    """Problems drawn at random of `num_eligible` at `step`, in the order of the draw; the `number`-th of the run."""

    id: int
    run_id: int
    seed: int
    step: int
    num_eligible: int
    created_at: float
    number: int
    problem_ids: tuple[str, ...]


@dataclass(frozen=True)
class SpotVerdictRow:
    """What a person said: an `answer` (in `text`), that the label of `step` (in `text`) is `right` or `wrong`, or
    nothing (`skip`)."""

    id: int
    check_id: int
    problem_id: str
    step: int
    said: SpotSaid
    text: str | None
    at: float


@dataclass(frozen=True)
class WorkerStatus:
    """Whether a worker serves this data folder, by its last sign of life."""

    alive: bool
    last_seen_at: float | None
    silent_s: float | None
    name: str | None
    pid: int | None
    started_at: float | None
    slots: int
    gpus: tuple[str, ...]
