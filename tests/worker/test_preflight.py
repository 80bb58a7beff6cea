"""Checks before a run: asked for once, computed by a job, found again for the same model, set and settings."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import DataError, ModelError
from ttrl_engine.preflight import Findings, Poll
from ttrl_engine.problems import load_problem_set
from worker.child import _compute
from worker.jobs import JobDesk
from worker.store import Store, open_store
from worker.store.holding import Claim, FencedError

FOUND = Findings((Poll("a", (9, 3), 16, 4, 0, True),), 96, 20.0, 0.01, 0.02)


class Seer:
    """An engine that needs no model."""

    asked: RunConfig

    def inspect(self, config: RunConfig, problem_set: Any, on_progress: Any, should_stop: Any) -> Findings:
        self.asked = config
        assert not should_stop()
        assert len(problem_set.problems) == 128
        on_progress(256, 512)
        return FOUND


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


@pytest.fixture
def set_id(store: Store) -> str:
    return store.add_problem_set(load_problem_set("bundled:sums"), source="bundled:sums")


def test_a_check_is_computed_by_a_job_and_found_again(store: Store, set_id: str):
    desk, config = JobDesk(store), RunConfig()
    ident = desk.submit_preflight(config, set_id)
    assert desk.submit_preflight(config, set_id) == ident
    [job] = store.queue()
    assert (job.kind, job.subject_id, job.title) == ("preflight", ident, "Check of bundled:sums")
    claim = store.claim_next("me")
    assert claim is not None
    seer = Seer()
    _compute(store, claim, seer, threading.Event())  # type: ignore[arg-type]
    assert seer.asked.answers.kind == "number"
    row = store.preflight_of(config, set_id)
    assert row is not None
    assert (row.id, row.findings, row.done, row.total) == (ident, FOUND, 16, 16)
    assert store.job(row.job.id).outcome == "completed"
    assert desk.submit_preflight(config, set_id) == ident


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"train.learning_rate": 0.1, "vote.num_votes": 32, "name": "other", "data.benchmarks": []}, True),
        ({"vote.temperature": 0.5}, False),
        ({"vote.max_new_tokens": 99}, False),
        ({"data.prompt_suffix": "Think."}, False),
        ({"seed": 7}, False),
    ],
)
def test_only_what_a_check_would_see_makes_it_another(store: Store, set_id: str, changes: dict[str, Any], same: bool):
    ident = store.submit_preflight(RunConfig(), set_id)
    other = RunConfig().with_changes(**changes)
    assert (store.preflight_of(other, set_id) is not None) == same
    assert (store.submit_preflight(other, set_id) == ident) == same


def test_one_that_failed_is_asked_for_anew(store: Store, set_id: str):
    ident = store.submit_preflight(RunConfig(), set_id)
    store.request_cancel(store.queue()[0].id)
    assert store.submit_preflight(RunConfig(), set_id) > ident


def test_checks_go_before_the_runs_that_wait(store: Store, set_id: str):
    store.submit_run(RunConfig(), "client", set_id)
    store.submit_preflight(RunConfig(), set_id)
    assert [job.kind for job in store.queue()] == ["preflight", "run"]


def test_what_is_not_there_is_refused_and_late_words_too(store: Store, set_id: str):
    with pytest.raises(DataError, match="no problem set"):
        store.submit_preflight(RunConfig(), "gone")
    assert store.preflight_of(RunConfig(), "gone") is None
    with pytest.raises(ModelError):
        store.submit_preflight(RunConfig().with_changes(**{"model.source": "bundled:nope"}), set_id)
    store.submit_preflight(RunConfig(), set_id)
    claim = store.claim_next("me")
    assert claim is not None
    with pytest.raises(FencedError):
        store.record_preflight(Claim(claim.job_id, claim.attempt - 1), 1, 2)
