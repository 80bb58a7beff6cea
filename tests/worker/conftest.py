"""Fixtures of the worker's tests: a fresh store, a small problem set, and engines that need no model."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ttrl_engine.config import RunConfig
from ttrl_engine.problems import Problem, ProblemSet
from worker.settings import Settings
from worker.store import Store, open_store
from worker.supervisor import Supervisor

HERE = Path(__file__).parent
SCRIPTED_CHILD = (sys.executable, str(HERE / "scripted_child.py"))


@pytest.fixture(scope="session")
def empty_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an empty database, made once and copied: migrating takes longer than most tests."""
    folder = tmp_path_factory.mktemp("empty") / "data"
    open_store(folder).close()
    return folder


@pytest.fixture
def store(empty_data: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(empty_data, tmp_path / "data")
    opened = Store(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def problem_set() -> ProblemSet:
    problems = tuple(Problem(f"p{i}", f"What is {i} + 1?") for i in range(6))
    return ProblemSet("six sums", "math", problems, {f"p{i}": str(i + 1) for i in range(3)})


@pytest.fixture
def set_id(store: Store, problem_set: ProblemSet) -> str:
    return store.add_problem_set(problem_set, "test")


@pytest.fixture
def submit(store: Store, set_id: str) -> Callable[..., int]:
    """Queue a run; `script` tells the scripted engine what to do, see scripted_child.py."""
    ids = itertools.count()

    def _submit(script: str = "", max_steps: int = 3, client_id: str | None = None, save_every: int = 2) -> int:
        config = RunConfig().with_changes(
            **{
                "name": script or "a run",
                "train.max_steps": max_steps,
                "checkpoint.every_steps": save_every,
                "data.problems": f"set:{set_id}",
            }
        )
        return store.submit_run(config, client_id or f"client {next(ids)}", set_id)

    return _submit


@pytest.fixture
def settings(store: Store) -> Settings:
    return Settings(data_dir=store.data_dir, grace_s=5.0, heartbeat_s=0.2, reconcile_s=0.2, min_free_bytes=0)


@pytest.fixture
def supervisor(store: Store, settings: Settings) -> Supervisor:
    return Supervisor(store, settings, "this worker", child=SCRIPTED_CHILD)
