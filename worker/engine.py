"""The engine as a job calls it, and the real one. A test hands in one that needs no model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ttrl_engine.asking import Asking
from ttrl_engine.config import RunConfig
from ttrl_engine.events import Emit, RunFinished
from ttrl_engine.launch import take_gpu
from ttrl_engine.preflight import Findings, inspect
from ttrl_engine.problems import Problem, ProblemSet
from worker.store import Store


class BaseScoreTable:
    """The marks of base models, kept in the store. They are shared by all runs, so no attempt fences them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The marks stored under a key, or None."""
        value: Mapping[str, Any] | None = self._store.base_score(key)
        return value

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Store marks."""
        self._store.put_base_score(key, value)


class Engine(Protocol):
    """What computes a run, a comparison or a check before a run."""

    def run(
        self,
        config: RunConfig,
        folder: Path,
        problem_set: ProblemSet,
        benchmarks: Mapping[str, ProblemSet],
        emit: Emit,
        should_stop: Callable[[], bool],
        base_scores: BaseScoreTable,
    ) -> RunFinished:
        """As `ttrl_engine.trainer.run`."""
        ...

    def roll_back(self, folder: Path, emit: Emit, wanted: int | None) -> RunFinished:
        """As `ttrl_engine.trainer.roll_back`."""
        ...

    def answer_both(
        self,
        asking: Asking,
        problem: Problem,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        on_side: Callable[[str, dict[str, Any]], None],
    ) -> Mapping[str, Any]:
        """As `ttrl_engine.compare.answer_both`; raises `ttrl_engine.sampler.StopRequested` when stopped."""
        ...

    def answer_all(
        self,
        asking: Asking,
        problems: Sequence[Problem],
        emit: Callable[[str, str, dict[str, Any]], None],
        known: Collection[tuple[str, str]],
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """As `ttrl_engine.compare.answer_all`; raises `ttrl_engine.sampler.StopRequested` when stopped."""
        ...

    def inspect(
        self,
        config: RunConfig,
        problem_set: ProblemSet,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Findings:
        """As `ttrl_engine.preflight.inspect`; raises `ttrl_engine.sampler.StopRequested` when stopped."""
        ...


class TorchEngine:
    """ttrl_engine, loaded only when it is called: the worker itself never loads torch."""

    def run(
        self,
        config: RunConfig,
        folder: Path,
        problem_set: ProblemSet,
        benchmarks: Mapping[str, ProblemSet],
        emit: Emit,
        should_stop: Callable[[], bool],
        base_scores: BaseScoreTable,
    ) -> RunFinished:
        """Compute or resume a run."""
        take_gpu(config.hardware)
        from ttrl_engine import trainer

        return trainer.run(config, folder, problem_set, benchmarks, emit, should_stop, base_scores)

    def roll_back(self, folder: Path, emit: Emit, wanted: int | None) -> RunFinished:
        """Make the last healthy checkpoint, or the chosen one, the result of a run."""
        from ttrl_engine import trainer

        return trainer.roll_back(folder, emit, wanted)

    def answer_both(
        self,
        asking: Asking,
        problem: Problem,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        on_side: Callable[[str, dict[str, Any]], None],
    ) -> Mapping[str, Any]:
        """Answers of the base and of the adapted policy."""
        from ttrl_engine import compare

        return compare.answer_both(asking, problem, on_progress, should_stop, on_side)

    def answer_all(
        self,
        asking: Asking,
        problems: Sequence[Problem],
        emit: Callable[[str, str, dict[str, Any]], None],
        known: Collection[tuple[str, str]],
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Answers of both to many problems."""
        from ttrl_engine import compare

        compare.answer_all(asking, problems, emit, known, on_progress, should_stop)

    def inspect(
        self,
        config: RunConfig,
        problem_set: ProblemSet,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Findings:
        """How the model votes on a few problems."""
        return inspect(config, problem_set, on_progress, should_stop)
