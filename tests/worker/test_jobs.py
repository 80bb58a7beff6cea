"""Submitting, ordering, holding, and what people may ask of a job in which state."""

from __future__ import annotations

import threading

import pytest

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ConfigError, DataError, StudioError
from worker.jobs import JobDesk
from worker.states import Intent, JobState
from worker.store import Store
from worker.store.holding import Claim


def test_a_run_is_frozen_with_all_that_decides_its_result(store: Store, submit, set_id):
    run = store.run(submit("first", max_steps=7))
    assert run is not None
    assert (run.name, run.state, run.data_hash) == ("first", JobState.QUEUED, set_id)
    assert run.config.train.max_steps == 7
    assert run.config.digest() == run.config_digest
    assert "torch" in run.versions


def test_an_unnamed_run_is_called_after_its_model_and_its_data(store: Store, set_id):
    run = store.run(store.submit_run(RunConfig(), "x", set_id))
    assert run is not None
    assert run.name == "abacus-1m on six sums"


def test_starting_twice_starts_once(store: Store, submit):
    found: list[int] = []
    starters = [threading.Thread(target=lambda: found.append(submit("twice", client_id="the same"))) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert len(store.queue()) == 1


def test_a_run_without_data_is_refused_and_leaves_no_job(store: Store):
    with pytest.raises(DataError, match="no problem set"):
        store.submit_run(RunConfig(), "x", "nowhere")
    with pytest.raises(ConfigError, match="client id"):
        store.submit_run(RunConfig(), "", "nowhere")
    assert store.queue() == []


def test_the_queue_is_reordered_by_moving_rows(store: Store, submit):
    a, b, c = (_job(store, submit()) for _ in range(3))
    assert _waiting(store) == [a, b, c]
    store.move_first(c)
    assert _waiting(store) == [c, a, b]
    store.move_down(c)
    assert _waiting(store) == [a, c, b]
    store.move_up(b)
    assert _waiting(store) == [a, b, c]
    store.move(a, None)
    assert _waiting(store) == [b, c, a]
    store.move(a, before=c)
    assert _waiting(store) == [b, a, c]
    store.move_up(b)
    store.move_down(c)
    assert _waiting(store) == [b, a, c]


def test_what_no_longer_waits_cannot_be_moved(store: Store, submit):
    job_id = _job(store, submit())
    store.claim_next("w")
    with pytest.raises(StudioError, match="no longer waits"):
        store.move_first(job_id)


def test_a_comparison_goes_before_the_runs_that_wait(store: Store, submit):
    first, second = submit(), submit()
    one = store.submit_comparison(first, "1 + 1?", "c1")
    two = store.submit_comparison(first, "2 + 2?", "c2")
    assert [(job.kind, job.subject_id) for job in store.queue()] == [
        ("compare", one),
        ("compare", two),
        ("run", first),
        ("run", second),
    ]
    assert store.submit_comparison(first, "1 + 1?", "c1") == one


def test_a_comparison_with_nothing_to_compare_is_refused(store: Store, submit):
    run_id = submit()
    with pytest.raises(ConfigError, match="nothing to compare"):
        store.submit_comparison(run_id, "  ", "c")
    with pytest.raises(ConfigError, match="no run 99"):
        store.submit_comparison(99, "1 + 1?", "c")
    assert len(store.queue()) == 1


def test_a_waiting_job_is_paused_and_cancelled_at_once(store: Store, submit):
    job_id = _job(store, submit())
    assert store.request_pause(job_id) is JobState.PAUSED
    assert store.request_pause(job_id) is JobState.PAUSED
    assert store.request_resume(job_id) is JobState.QUEUED
    assert store.job(job_id).intent is Intent.RUN
    assert store.request_cancel(job_id) is JobState.STOPPED
    assert store.request_cancel(job_id) is JobState.STOPPED
    assert store.job(job_id).finished_at is not None
    assert [move.to_state for move in store.history(job_id)] == ["queued", "paused", "queued", "stopped"]


def test_a_running_job_is_asked_and_does_as_asked_later(store: Store, submit):
    job_id = _job(store, submit())
    store.claim_next("w")
    assert store.request_pause(job_id) is JobState.PAUSING
    with pytest.raises(StudioError, match="still saving"):
        store.request_resume(job_id)
    assert store.request_cancel(job_id) is JobState.STOPPING
    with pytest.raises(StudioError, match="already being stopped"):
        store.request_pause(job_id)
    assert store.job(job_id).intent is Intent.CANCEL


@pytest.mark.parametrize("ask", ["request_pause", "request_cancel", "request_resume"])
def test_a_finished_job_is_left_alone(store: Store, submit, ask):
    job_id = _job(store, submit())
    store.connection.execute("UPDATE jobs SET state = 'finished'")
    with pytest.raises(StudioError, match="it is finished"):
        getattr(store, ask)(job_id)


def test_a_job_that_is_not_there_is_named(store: Store):
    with pytest.raises(StudioError, match="no job 7"):
        store.request_cancel(7)


def test_a_resumed_job_waits_behind_the_others(store: Store, submit):
    a, b = _job(store, submit()), _job(store, submit())
    store.request_pause(a)
    store.request_resume(a)
    assert _waiting(store) == [b, a]
    assert store.job(a).resumes == 1


def test_the_desk_rings_after_it_has_written(store: Store, set_id):
    desk = JobDesk(store)
    run_id = desk.submit_run(RunConfig(), "x", set_id)
    assert desk._doorbell.num_rung() == 1
    assert [job.subject_id for job in store.queue()] == [run_id]


def test_a_set_that_was_removed_is_named_by_the_desk(store: Store, set_id):
    desk = JobDesk(store)
    assert desk.problem_set(f"set:{set_id}") == set_id
    with pytest.raises(DataError, match="removed"):
        desk.problem_set("set:gone")


@pytest.mark.parametrize("path", ["/etc/passwd", "../app.db", "sums.csv"])
def test_a_config_from_a_browser_names_no_file(store: Store, set_id, path: str):
    desk = JobDesk(store)
    with pytest.raises(DataError, match="Upload the file"):
        desk.submit_run(RunConfig().with_changes(**{"data.problems": path}), "x")
    with pytest.raises(DataError, match="Upload the file"):
        desk.submit_run(RunConfig().with_changes(**{"data.benchmarks": (path,)}), "y", set_id)
    assert store.queue() == []


def test_only_a_run_that_has_ended_is_archived(store: Store, submit):
    run_id = submit()
    with pytest.raises(StudioError, match="Cancel it first"):
        store.archive_run(run_id)
    store.request_cancel(_job(store, run_id))
    store.archive_run(run_id)
    assert store.runs() == []
    assert [run.id for run in store.runs(archived=True)] == [run_id]


def test_a_run_is_renamed_and_noted(store: Store, submit):
    run_id = submit()
    store.rename_run(run_id, "  better  ")
    store.note_run(run_id, "as an aside")
    run = store.run(run_id)
    assert run is not None
    assert (run.name, run.note) == ("better", "as an aside")
    with pytest.raises(StudioError, match="needs a name"):
        store.rename_run(run_id, " ")


def test_what_is_shown_of_a_run_changes_its_token(store: Store, submit):
    one, other = submit(), submit()
    before, before_other, before_all = store.change_token(one), store.change_token(other), store.change_token()
    assert (store.change_token(one), store.change_token()) == (before, before_all)
    store.request_pause(_job(store, one))
    assert store.change_token(one) != before
    assert store.change_token() != before_all
    assert store.change_token(other) == before_other
    claim = store.claim_next("w")
    assert claim is not None
    assert store.change_token(other) != before_other
    store.beat(claim)
    token = store.change_token(other)
    store.beat(Claim(*claim))
    assert store.change_token(other) == token


def _job(store: Store, run_id: int) -> int:
    run = store.run(run_id)
    assert run is not None
    return run.job_id


def _waiting(store: Store) -> list[int]:
    return [job.id for job in store.queue()]
