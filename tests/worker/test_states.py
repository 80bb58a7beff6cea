"""The table of moves, and that nothing goes around it."""

from __future__ import annotations

import pytest

from ttrl_engine.errors import StudioError
from worker.states import ACTIVE, RESUMABLE, TERMINAL, TRANSITIONS, JobState, can_move
from worker.store import Store
from worker.store.jobs import move

S = JobState


def test_every_state_is_in_the_table():
    assert set(TRANSITIONS) == set(JobState)


def test_a_finished_job_goes_nowhere():
    assert TRANSITIONS[S.FINISHED] == frozenset()


@pytest.mark.parametrize("state", sorted(RESUMABLE))
def test_what_can_be_resumed_goes_back_to_the_queue(state):
    assert can_move(state, S.QUEUED)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_what_a_worker_holds_can_end_in_every_way(state):
    assert {S.FINISHED, S.FAILED, S.LOST} <= TRANSITIONS[state]


def test_nothing_starts_but_from_the_queue():
    assert [before for before in S if can_move(before, S.STARTING)] == [S.QUEUED]


def test_what_is_asked_to_stop_does_not_run_again():
    assert not can_move(S.STOPPING, S.QUEUED)
    assert not can_move(S.STOPPING, S.PAUSED)


def test_terminal_and_active_states_are_apart():
    assert not TERMINAL & ACTIVE


@pytest.mark.parametrize("before", sorted(S))
def test_a_move_is_done_and_told_or_refused_and_not_told(store: Store, submit, before):
    run = store.run(submit())
    assert run is not None
    for after in S:
        store.connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (before, run.job_id))
        told = len(store.history(run.job_id))
        if can_move(before, after):
            with store.writing() as connection:
                move(connection, run.job_id, after, "because")
            assert store.job(run.job_id).state is after
            last = store.history(run.job_id)[-1]
            assert (last.from_state, last.to_state, last.reason) == (before, after, "because")
        else:
            with pytest.raises(StudioError, match="cannot become"), store.writing() as connection:
                move(connection, run.job_id, after, "because")
            assert store.job(run.job_id).state is before
            assert len(store.history(run.job_id)) == told
