"""A real collapse, by a learning rate a hundred times too high: alarm, log, pause, and the way back."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from ttrl_engine.checkpoint import load_state
from ttrl_engine.config import PRESETS
from ttrl_engine.errors import StudioError
from ttrl_engine.problems import load_problem_set
from worker.jobs import JobDesk
from worker.rows import RunRow
from worker.settings import Settings
from worker.states import Intent, JobState
from worker.store import Store
from worker.supervisor import Supervisor

# As `every weight, rate rising to 2e-2` of benchmarks/collapse.py, smaller.
TOO_FAST = {
    "model.method": "full",
    "data.benchmarks": (),
    "data.max_problems": 16,
    "vote.num_votes": 8,
    "vote.num_trained": 8,
    "vote.max_new_tokens": 64,
    "train.problems_per_step": 4,
    "train.epochs": 10,
    "train.max_steps": 16,
    "train.learning_rate": 2e-2,
    "train.schedule": "constant",
    "train.warmup_share": 0.9,
    "evaluate.every_steps": 0,
    "evaluate.num_samples": 1,
    "evaluate.max_problems": 2,
    "checkpoint.every_steps": 1,
    "checkpoint.keep": 1,
    "safeguards.action": "pause",
    "hardware.threads": 1,
}


def _run(store: Store, run_id: int) -> RunRow:
    run = store.run(run_id)
    assert run is not None
    return run


def test_a_collapse_is_seen_told_and_undone(store: Store, settings: Settings) -> None:
    config = PRESETS["quick-look"].config().with_changes(**TOO_FAST)
    set_id = store.add_problem_set(load_problem_set("bundled:sums"), source="bundled:sums")
    run_id = store.submit_run(config, "collapse", set_id)
    worker = Supervisor(store, settings, "this worker")
    worker.serve()

    paused = _run(store, run_id)
    alarms = store.alarms(run_id)
    assert paused.state is JobState.PAUSED
    assert alarms, store.log_tail(run_id)
    assert alarms[0].step == paused.step < 16
    assert paused.job.reason == alarms[-1].message
    assert f"alarm {alarms[0].alarm} at step {paused.step} (pause)" in store.log_tail(run_id)
    sick = store.run_folder(run_id) / "checkpoints" / f"step-{paused.step:06d}"
    healthy = sick.with_name(f"step-{paused.step - 1:06d}")
    assert (load_state(healthy).healthy, load_state(sick).healthy) == (True, False)

    assert JobDesk(store).roll_back(paused.job_id) is JobState.QUEUED
    worker.serve()
    ended = _run(store, run_id)
    assert (ended.state, ended.step) == (JobState.FINISHED, paused.step - 1)
    assert f"step {paused.step - 1}, the last healthy checkpoint" in (ended.job.reason or "")
    assert any(note.message.startswith("Rolled back to step") for note in store.notes(run_id))
    result, kept, lost = (
        load_file(folder / "model.safetensors") for folder in (store.run_folder(run_id) / "policy", healthy, sick)
    )
    assert all(result[name].equal(kept[name]) for name in kept)
    assert not all(result[name].equal(lost[name]) for name in lost)
    assert store.alarms(run_id) == alarms, "what was seen stays"


def test_a_roll_back_waits_in_the_queue_and_a_resume_takes_it_back(store: Store, submit, supervisor: Supervisor):
    run_id = submit("alarm@2", max_steps=4)
    supervisor.serve()
    job_id = _run(store, run_id).job_id
    store.request_roll_back(job_id)
    assert (_run(store, run_id).state, store.job(job_id).intent) == (JobState.QUEUED, Intent.ROLL_BACK)
    with pytest.raises(StudioError, match="something else"):
        store.request_resume(job_id)
    assert store.request_roll_back(job_id) is JobState.QUEUED
    store.request_pause(job_id)
    store.request_resume(job_id)
    with pytest.raises(StudioError, match="something else"):
        store.request_roll_back(job_id)
    supervisor.serve()
    assert (_run(store, run_id).state, _run(store, run_id).step) == (JobState.FINISHED, 4)


def test_a_run_is_rolled_back_to_the_step_that_was_chosen(store: Store, submit, supervisor: Supervisor):
    run_id = submit("alarm@3", max_steps=4, save_every=1)
    supervisor.serve()
    job_id = _run(store, run_id).job_id
    store.request_roll_back(job_id, 1)
    supervisor.serve()
    ended = _run(store, run_id)
    assert (ended.state, ended.step) == (JobState.FINISHED, 1)
    assert ended.job.reason == "Ended at step 1, as a person asked."


def test_a_chosen_checkpoint_that_is_gone_fails_in_words_and_leaves_the_run_as_it_was(
    store: Store, submit, supervisor: Supervisor
):
    run_id = submit("alarm@3", max_steps=4, save_every=1)
    supervisor.serve()
    paused = _run(store, run_id)
    store.request_roll_back(paused.job_id, 1)
    (store.run_folder(run_id) / "checkpoints" / "1").rmdir()
    supervisor.serve()
    failed = _run(store, run_id)
    assert (failed.state, failed.step, failed.policy_path) == (JobState.FAILED, paused.step, paused.policy_path)
    assert failed.job.error_message == "There is no checkpoint of step 1 any more."
    store.request_roll_back(paused.job_id, 2)
    store.request_pause(paused.job_id)
    store.request_resume(paused.job_id)
    assert store.job(paused.job_id).intent_step is None, "a resume goes nowhere back"
    supervisor.serve()
    assert (_run(store, run_id).state, _run(store, run_id).step) == (JobState.FINISHED, 4)


def test_only_a_run_that_does_not_run_can_be_rolled_back(store: Store, submit, supervisor: Supervisor):
    run_id = submit("fine")
    job_id = _run(store, run_id).job_id
    supervisor.serve()
    with pytest.raises(StudioError, match="finished"):
        store.request_roll_back(job_id)
