"""Events become rows: in batches, fenced, and after a resume as if nothing had happened."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.worker.scripted_child import emit_step, evaluation
from tests.worker.waiting import wait_until
from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    Event,
    HeldOutPolled,
    Noted,
    Phase,
    ProblemScore,
    Progressed,
    RunStarted,
    StepFinished,
)
from worker import recorder as recorder_module
from worker.recorder import Recorder
from worker.settlement import Verdict
from worker.states import JobState
from worker.store import Store
from worker.store.holding import FencedError


@pytest.fixture
def run_id(submit):
    return submit()


@pytest.fixture
def claim(store: Store, run_id):
    return store.claim_next("w")


def _started(first_step: int = 1) -> RunStarted:
    return RunStarted("m", 10, 5, "cpu", "torch", 2, 4, 2, first_step, 20)


def test_a_job_runs_once_its_model_is_loaded(store: Store, run_id, claim):
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(Progressed(0, Phase.LOADING, 0, 1))
        recorder.emit(Noted(0, "info", "One prompt is too long."))
        recorder.flush()
        assert store.job(claim.job_id).state is JobState.STARTING
        recorder.emit(_started())
    run = store.run(run_id)
    assert run is not None
    assert (run.state, run.total_steps, run.num_adapt, run.threads) == (JobState.RUNNING, 20, 4, 2)
    assert [note.message for note in store.notes(run_id)] == ["One prompt is too long."]


def test_what_held_out_problems_say_without_references_is_a_metric_of_its_step(store: Store, run_id, claim):
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(_started())
        recorder.emit(evaluation(0))
        recorder.emit(HeldOutPolled(0, 12, 4, {"held_out_consensus": 0.5, "held_out_label_variety": math.nan}))
        recorder.emit(HeldOutPolled(6, 12, 4, {"held_out_consensus": 0.75}, 2.0))
    series = store.metric_series(run_id, ["held_out_consensus", "held_out_label_variety", "seconds.evaluating"])
    assert [(step, mean) for step, mean, _, _ in series["held_out_consensus"]] == [(0, 0.5), (6, 0.75)]
    assert [(step, mean) for step, mean, _, _ in series["held_out_label_variety"]] == [(0, None)]
    assert [(step, mean) for step, mean, _, _ in series["seconds.evaluating"]] == [(0, 1.5), (6, 2.0)]


def test_every_event_has_its_rows(store: Store, run_id, claim):
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(_started())
        recorder.emit(evaluation(0))
        for step in (1, 2):
            emit_step(recorder.emit, step, 20)
        recorder.emit(CheckpointSaved(2, "checkpoints/2"))
        recorder.emit(AlarmRaised(2, "kl_jump", "The policy jumped.", math.inf, 10.0, "note"))
    assert store.latest_metrics(run_id) == {
        "consensus": 0.502,
        "grad_norm": None,
        "loss": math.sin(2),
        "seconds.evaluating": 1.5,
        "seconds.sampling": 0.25,
        "seconds.updating": 0.5,
    }
    assert len(store.elections_at(run_id, 2)) == 4
    assert [row.step for row in store.evaluations(run_id)] == [0, 2]
    assert [row.gain for row in store.evaluations(run_id)] == [None, 0.02]
    assert [row.num_correct for row in store.scores(run_id, 2, "adapt", "six sums")] == [2, 0]
    assert [row.path for row in store.checkpoints(run_id)] == ["checkpoints/2"]
    assert [row.value for row in store.alarms(run_id)] == [None]
    run = store.run(run_id)
    assert run is not None
    assert (run.step, run.phase, run.phase_done, run.phase_total) == (2, "sampling", 3, 8)


def test_a_score_keeps_what_could_be_read(store: Store, run_id, claim):
    score = ProblemScore("p0", 8, 3, "42", True, num_unparsed=2, num_truncated=1, mean_length=61.5)
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(_started())
        recorder.emit(dataclasses.replace(evaluation(0), scores=(score,)))
    [kept] = store.scores(run_id, 0, "adapt", "six sums")
    assert dataclasses.asdict(kept) == dataclasses.asdict(score)


def test_rows_wait_for_company_but_not_for_long(store: Store, run_id, claim, monkeypatch):
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0.05)
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(_started())
        wait_until(lambda: store.run(run_id).total_steps == 20, "the flush in the background", 5.0)  # type: ignore[union-attr]


def test_only_the_newest_progress_is_written(store: Store, run_id, claim):
    with Recorder(store, claim, run_id) as recorder:
        for done in range(5000):
            recorder.emit(Progressed(1, Phase.SAMPLING, done, 5000))
        assert len(recorder._waiting) == 0
    run = store.run(run_id)
    assert run is not None
    assert run.phase_done == 4999


def test_progress_within_a_phase_is_no_change_of_the_run(store: Store, run_id, claim):
    with Recorder(store, claim, run_id) as recorder:
        recorder.emit(_started())
        recorder.flush()
        changes, progress = store.change_token(run_id), store.progress_token(run_id)
        recorder.emit(Progressed(1, Phase.SAMPLING, 3, 8))
        recorder.flush()
        assert (store.change_token(run_id), store.progress_token(run_id)) == (changes, progress + 1)
        emit_step(recorder.emit, 1, 20)
        recorder.flush()
    assert store.change_token(run_id) != changes


def test_rows_are_on_disk_before_the_checkpoint_that_holds_their_step(store: Store, run_id, claim):
    recorder = Recorder(store, claim, run_id)
    recorder.emit(_started())
    emit_step(recorder.emit, 1, 20)
    assert store.last_step(claim.job_id) == 0
    recorder.emit(Progressed(1, Phase.SAVING, 0, 1))
    assert store.last_step(claim.job_id) == 1
    assert len(store.elections_at(run_id, 1)) == 4
    assert store.connection.execute("PRAGMA synchronous").fetchone()[0] == 1


def test_a_resumed_run_leaves_no_row_of_a_later_step(store: Store, run_id, claim):
    def steps(*numbers: int) -> None:
        with Recorder(store, claim, run_id) as recorder:
            recorder.emit(_started(numbers[0]))
            for step in numbers:
                emit_step(recorder.emit, step, 20)
                recorder.emit(CheckpointSaved(step, f"c{step}"))
                recorder.emit(Noted(step, "info", f"step {step}"))

    steps(1, 2, 3, 4, 5)
    steps(3)
    assert [row.step for row in store.election_history(run_id, "p0")] == [1, 2, 3]
    assert [point[0] for point in store.metric_series(run_id, ["loss"])["loss"]] == [1, 2, 3]
    assert [row.step for row in store.evaluations(run_id)] == [2]
    assert [row.step for row in store.checkpoints(run_id)] == [1, 2, 3]
    assert [row.message for row in store.notes(run_id)] == ["step 1", "step 2", "step 3"]
    run = store.run(run_id)
    assert run is not None
    assert run.step == 3


def test_the_engine_is_told_when_its_rows_are_refused(store: Store, run_id, claim):
    recorder = Recorder(store, claim, run_id)
    recorder.emit(_started())
    store.let_go(claim, lambda _job, _step: Verdict(JobState.QUEUED, "lost"))
    with pytest.raises(FencedError):
        recorder.flush()


def test_an_error_in_the_background_reaches_the_engine(store: Store, run_id, claim, monkeypatch):
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0.02)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.QUEUED, "lost"))

    def emit_until_told() -> None:
        with Recorder(store, claim, run_id) as recorder:
            recorder.emit(_started())
            wait_until(lambda: recorder._error is not None, "the refused flush", 5.0)
            recorder.emit(evaluation(0))

    with pytest.raises(FencedError):
        emit_until_told()


def test_what_was_seen_before_a_failure_is_kept(store: Store, run_id, claim):
    def fail() -> None:
        with Recorder(store, claim, run_id) as recorder:
            recorder.emit(_started())
            emit_step(recorder.emit, 1, 20)
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert store.last_step(claim.job_id) == 1


def test_the_time_left_is_a_range_once_two_steps_are_known(store: Store, run_id, claim):
    ticks = iter([0.0, 1.0, 4.0])
    with Recorder(store, claim, run_id, clock=lambda: next(ticks)) as recorder:
        recorder.emit(_started())
        recorder.emit(StepFinished(1, 20, {}, {}))
        recorder.flush()
        assert store.run(run_id).eta_low_s is None  # type: ignore[union-attr]
        recorder.emit(StepFinished(2, 20, {}, {}))
    run = store.run(run_id)
    assert run is not None
    assert run.eta_low_s is not None
    assert run.eta_high_s is not None
    assert 18.0 <= run.eta_low_s < 36.0 < run.eta_high_s


def test_an_event_without_rows_is_a_mistake_of_ours(store: Store, run_id, claim):
    with pytest.raises(TypeError, match="No rows"):
        Recorder(store, claim, run_id).emit(Event())
