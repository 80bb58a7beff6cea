"""Claiming a job, and that an attempt which lost it cannot write any more."""

from __future__ import annotations

import threading
import time

import pytest

from worker.settlement import Verdict
from worker.states import Intent, JobState, Outcome
from worker.store import Store
from worker.store.holding import Claim, FencedError


def test_every_job_is_claimed_once_however_many_ask(store: Store, submit):
    for _ in range(20):
        submit()
    claims: list[Claim] = []

    def claim_all() -> None:
        while (claim := store.claim_next(threading.current_thread().name)) is not None:
            claims.append(claim)

    threads = [threading.Thread(target=claim_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.job_id for claim in claims) == sorted(job.id for job in store.active_jobs())
    assert len(claims) == len({claim.job_id for claim in claims}) == 20
    assert {claim.attempt for claim in claims} == {1}


def test_the_head_is_claimed_after_a_reorder(store: Store, submit):
    runs = [submit() for _ in range(3)]
    store.move_first(store.queue()[2].id)
    claim = store.claim_next("w")
    assert claim is not None
    assert store.job(claim.job_id).subject_id == runs[2]


def test_nothing_is_claimed_while_the_queue_is_held(store: Store, submit):
    submit()
    store.hold_queue(True)
    assert store.queue_held()
    assert store.claim_next("w") is None
    store.hold_queue(False)
    assert store.claim_next("w") is not None


def test_an_empty_queue_has_nothing_to_claim(store: Store):
    assert store.claim_next("w") is None


def test_a_sign_of_life_brings_back_what_is_wanted(store: Store, submit):
    submit()
    claim = _claim(store)
    assert store.beat(claim) is Intent.RUN
    store.request_pause(claim.job_id)
    assert store.listen(claim) is Intent.PAUSE
    assert store.beat(Claim(claim.job_id, claim.attempt + 1)) is None


def test_an_old_attempt_cannot_write(store: Store, submit):
    run_id = submit()
    old = _claim(store)
    store.let_go(old, lambda _job, _step: Verdict(JobState.QUEUED, "the worker was lost"))
    row = ("INSERT INTO notes (run_id, step, level, message, at) VALUES (?, 1, 'info', 'late', 0)", (run_id,))
    for refused in (
        lambda: store.record(old, run_id, [row]),
        lambda: store.note_process(old, 1),
        lambda: store.say_outcome(old, Outcome.COMPLETED),
        lambda: store.record_comparison(old, run_id, 1, 2),
    ):
        with pytest.raises(FencedError):
            refused()
    new = _claim(store)
    assert new == Claim(old.job_id, 2)
    with pytest.raises(FencedError):
        store.record(old, run_id, [row])
    assert store.let_go(old, lambda _job, _step: Verdict(JobState.FINISHED, "")) is None
    assert store.notes(run_id) == []
    assert store.job(old.job_id).state is JobState.STARTING


def test_a_batch_is_written_whole_or_not_at_all(store: Store, submit):
    run_id = submit()
    claim = _claim(store)
    good = ("INSERT INTO metrics (run_id, step, name, value) VALUES (?, 1, 'loss', 1.0)", (run_id,))
    with pytest.raises(Exception, match="no such table"):
        store.record(claim, run_id, [good, ("INSERT INTO nowhere VALUES (1)", ())])
    assert store.metric_names(run_id) == []
    store.record(claim, run_id, [good])
    assert store.metric_names(run_id) == ["loss"]


def test_what_lost_its_worker_comes_back_first(store: Store, submit):
    for _ in range(3):
        submit()
    claim = _claim(store)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.QUEUED, "the worker was lost"))
    assert store.queue()[0].id == claim.job_id


def test_jobs_of_another_worker_and_silent_ones_are_reclaimable(store: Store, submit):
    submit()
    claim = _claim(store, "me")
    assert store.reclaimable("me", stale_s=30.0) == []
    assert [job.id for job in store.reclaimable("the next worker", stale_s=30.0)] == [claim.job_id]
    store.connection.execute("UPDATE jobs SET heartbeat_at = ?", (time.time() - 31.0,))
    assert [job.id for job in store.reclaimable("me", stale_s=30.0)] == [claim.job_id]
    silent_s = store.job(claim.job_id).silent_s(time.time())
    assert silent_s is not None
    assert silent_s == pytest.approx(31.0, abs=1.0)


def test_a_worker_is_alive_until_it_is_silent_or_leaves(store: Store):
    assert not store.worker_status().alive
    store.report_worker("w", 12, time.time(), 1, ["GPU-1"])
    status = store.worker_status()
    assert (status.alive, status.pid, status.slots, status.gpus) == (True, 12, 1, ("GPU-1",))
    store.report_worker("w", 12, time.time(), 1, [], up=False)
    assert not store.worker_status().alive


def _claim(store: Store, worker: str = "w") -> Claim:
    claim = store.claim_next(worker)
    assert claim is not None
    return claim
