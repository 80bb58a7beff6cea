"""What a round of the reconciler makes true again."""

from __future__ import annotations

import os
import threading
import time

import pytest

from worker import processes
from worker.queue import Doorbell
from worker.reconciler import Reconciler
from worker.settings import Settings
from worker.states import JobState
from worker.store import Store
from worker.supervisor import Supervisor


@pytest.fixture
def doorbell(store: Store):
    bell = Doorbell(store.data_dir)
    yield bell
    bell.close()


@pytest.fixture
def reconciler(store: Store, settings: Settings, supervisor: Supervisor, doorbell: Doorbell) -> Reconciler:
    return Reconciler(store, settings, supervisor, doorbell, [None])


@pytest.mark.parametrize(
    ("ask", "state"),
    [(None, JobState.QUEUED), ("request_pause", JobState.PAUSED), ("request_cancel", JobState.STOPPED)],
)
def test_a_job_without_a_worker_goes_where_the_person_wants_it(store: Store, submit, reconciler, ask, state):
    submit()
    claim = store.claim_next("a worker that died")
    assert claim is not None
    if ask is not None:
        getattr(store, ask)(claim.job_id)
    reconciler.round()
    assert store.job(claim.job_id).state is state


def test_a_job_that_loses_every_worker_is_lost(store: Store, submit, reconciler):
    submit()
    job_id = store.queue()[0].id
    for _ in range(3):
        assert store.claim_next("a worker that died") is not None
        reconciler.round()
    job = store.job(job_id)
    assert (job.state, job.error_kind) == (JobState.LOST, "killed")


def test_a_number_that_now_belongs_to_another_process_is_left_alone(store: Store, submit, reconciler):
    submit()
    claim = store.claim_next("a worker that died")
    assert claim is not None
    store.note_process(claim, os.getpid())
    assert not processes.is_ours(os.getpid(), claim.job_id, claim.attempt, store.data_dir)
    reconciler.round()
    assert store.job(claim.job_id).state is JobState.QUEUED


def test_a_job_in_hand_is_left_alone(store: Store, submit, supervisor: Supervisor, reconciler):
    submit()
    claim = store.claim_next(supervisor.name)
    assert claim is not None
    reconciler.round()
    assert store.job(claim.job_id).state is JobState.STARTING
    # A thread that died with its job leaves it to no one.
    store.connection.execute("UPDATE jobs SET heartbeat_at = ?", (time.time() - 60.0,))
    reconciler.round()
    assert store.job(claim.job_id).state is JobState.QUEUED


def test_one_ring_is_enough_however_many_wait(store: Store, submit, reconciler, doorbell):
    for _ in range(3):
        submit()
    reconciler.round()
    reconciler.round()
    assert doorbell.num_rung() == 1


def test_a_ring_from_another_process_is_answered(store: Store):
    answered = threading.Event()
    bell = Doorbell(store.data_dir, answered.set)
    consumer = bell.consumer(1)
    consumer.start()
    try:
        Doorbell(store.data_dir).ring()
        assert answered.wait(5.0)
    finally:
        consumer.stop(graceful=True)
        bell.close()


def test_every_round_is_a_sign_of_life(store: Store, reconciler):
    reconciler.round()
    assert store.worker_status().alive
    reconciler.stop()
    assert not store.worker_status().alive
