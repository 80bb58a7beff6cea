"""Events of the engine become rows. The engine never waits for the disk longer than one small batch."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import singledispatchmethod
from typing import Any

from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    ElectionHeld,
    EvaluationFinished,
    Event,
    HeldOutPolled,
    Noted,
    Phase,
    Progressed,
    RunFinished,
    RunStarted,
    StepFinished,
)
from worker.pace import Pace
from worker.store import Store
from worker.store.connection import now
from worker.store.holding import Claim
from worker.store.recording import Statement

_log = logging.getLogger("worker.recorder")

FLUSH_S = 0.5
FLUSH_ROWS = 50

_FROM_STEP = ("metrics", "elections", "evaluations", "scores", "alarms", "checkpoints")
_FORGET = {table: f"DELETE FROM {table} WHERE run_id = ? AND step >= ?" for table in _FROM_STEP}  # noqa: S608

# What this attempt noted while it loaded stays.
_FORGET_NOTES = "DELETE FROM notes WHERE run_id = ? AND step >= ? AND at < ?"

_ELECTION = """
INSERT OR REPLACE INTO elections (run_id, step, problem_id, label, abstained, consensus, margin, num_rollouts,
  num_classes, num_unparsed, num_truncated, classes_json, reward_mean, label_correct, reward_accuracy, truth_share)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_EVALUATION = """
INSERT OR REPLACE INTO evaluations (run_id, step, split, problem_set, num_problems, num_samples, avg, avg_low, avg_high,
  maj, maj_low, maj_high, pass_k, gain, gain_low, gain_high, mean_length, truncated, from_cache)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SCORE = """
INSERT OR REPLACE INTO scores (run_id, step, split, problem_set, problem_id, num_samples, num_correct, maj_answer,
  maj_correct, num_unparsed, num_truncated, mean_length) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_METRIC = "INSERT OR REPLACE INTO metrics (run_id, step, name, value) VALUES (?, ?, ?, ?)"
_ALARM = (
    "INSERT INTO alarms (run_id, step, alarm, message, value, threshold, action, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_NOTE = "INSERT INTO notes (run_id, step, level, message, at) VALUES (?, ?, ?, ?, ?)"
_CHECKPOINT = "INSERT OR REPLACE INTO checkpoints (run_id, step, path, at) VALUES (?, ?, ?, ?)"
_STARTED = """
UPDATE runs SET model = ?, num_parameters = ?, num_trainable = ?, device = ?, sampler = ?, threads = ?, num_adapt = ?,
  num_held_out = ?, step = ?, total_steps = ? WHERE id = ?
"""
_STEP = "UPDATE runs SET step = ?, total_steps = ?, eta_low_s = ?, eta_high_s = ? WHERE id = ?"
_PHASE = "UPDATE runs SET phase = ?, phase_step = ?, phase_done = ?, phase_total = ? WHERE id = ?"
_ENDED = "UPDATE runs SET step = ?, policy_path = ?, eta_low_s = NULL, eta_high_s = NULL WHERE id = ?"


class Recorder:
    """Takes events from the engine's thread and writes them as rows, at most FLUSH_S later. Use as a context manager.

    A write that fails, or is refused because the job has passed to another attempt, is raised from the next `emit`.
    """

    def __init__(self, store: Store, claim: Claim, run_id: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._claim, self._run_id, self._clock = store, claim, run_id, clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._waiting: list[Statement] = []
        self._progress: Statement | None = None
        self._is_running = False
        self._pace = Pace()
        self._evaluated_step = -1
        self._evaluating_s = 0.0
        self._began_at = now()
        self._error: Exception | None = None
        self._flusher = threading.Thread(target=self._flush_often, name="recorder", daemon=True)
        self.last_alarm: AlarmRaised | None = None

    def __enter__(self) -> Recorder:
        self._flusher.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._closing.set()
        self._flusher.join()
        if kind is None:
            self.flush()
            return
        # The error on its way says why the run ends; what was seen before it should not be lost to it.
        with contextlib.suppress(Exception):
            self.flush()

    def emit(self, event: Event) -> None:
        """Take one event. Raises what an earlier write has raised."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not (isinstance(event, Noted) or (isinstance(event, Progressed) and event.phase is Phase.LOADING)):
                self._is_running = True
            self._take(event)
            # A checkpoint is about to be written. Were it on disk before the rows of the steps it holds, a kill in
            # between would lose those rows for good: a resume does not repeat the steps.
            saves = isinstance(event, Progressed) and event.phase is Phase.SAVING
            if saves or isinstance(event, CheckpointSaved) or len(self._waiting) >= FLUSH_ROWS:
                self._flush(durable=saves)

    def flush(self) -> None:
        """Write what waits, now. Raises FencedError or the error of an earlier write."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._flush()

    def _flush(self, durable: bool = False) -> None:
        statements = [*self._waiting, *([self._progress] if self._progress is not None else [])]
        if not statements:
            return
        self._store.record(self._claim, self._run_id, statements, self._is_running, durable, progress=not self._waiting)
        self._waiting.clear()
        self._progress = None

    def _flush_often(self) -> None:
        while not self._closing.wait(FLUSH_S):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 (told to the engine's thread, which is the one that can end)
                self._error = self._error or error
                return

    def _add(self, sql: str, *parameters: Any) -> None:
        self._waiting.append((sql, parameters))

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        raise TypeError(f"No rows are known for the event {event!r}.")

    @_take.register
    def _(self, event: RunStarted) -> None:
        # What an earlier attempt computed after the checkpoint is computed again: without this, rows of a later
        # step would stand beside it until it got there.
        for forget in _FORGET.values():
            self._add(forget, self._run_id, event.first_step)
        self._add(_FORGET_NOTES, self._run_id, event.first_step, self._began_at)
        self._add(
            _STARTED,
            event.model,
            event.num_parameters,
            event.num_trainable,
            event.device,
            event.sampler,
            event.threads,
            event.num_adapt,
            event.num_held_out,
            event.first_step - 1,
            event.total_steps,
            self._run_id,
        )
        self._pace.start(self._clock())

    @_take.register
    def _(self, event: Progressed) -> None:
        self._progress = (_PHASE, (event.phase.value, event.step, event.done, event.total, self._run_id))

    @_take.register
    def _(self, event: ElectionHeld) -> None:
        classes = [(part.answer, part.count, part.correct) for part in event.classes]
        self._add(
            _ELECTION,
            self._run_id,
            event.step,
            event.problem_id,
            _text(event.label),
            event.abstained,
            event.consensus,
            event.margin,
            event.num_rollouts,
            event.num_classes,
            event.num_unparsed,
            event.num_truncated,
            json.dumps(classes),
            _number(event.reward_mean),
            event.label_correct,
            _number(event.reward_accuracy),
            _number(event.truth_share),
        )

    @_take.register
    def _(self, event: StepFinished) -> None:
        for name, value in event.metrics.items():
            self._add(_METRIC, self._run_id, event.step, name, _number(value))
        for phase, seconds in event.seconds.items():
            self._add(_METRIC, self._run_id, event.step, f"seconds.{phase}", _number(seconds))
        self._pace.step_finished(self._clock())
        low_s, high_s = self._pace.left_s(event.total_steps - event.step) or (None, None)
        self._add(_STEP, event.step, event.total_steps, low_s, high_s, self._run_id)

    @_take.register
    def _(self, event: EvaluationFinished) -> None:
        if not event.from_cache:
            self._pace.evaluated(self._clock())
        key = (self._run_id, event.step, event.split.value, event.problem_set)
        rates = (event.avg, event.avg_low, event.avg_high, event.maj, event.maj_low, event.maj_high, event.pass_k)
        more = (event.gain, event.gain_low, event.gain_high, event.mean_length, event.truncated)
        numbers = [_number(value) for value in (*rates, *more)]
        self._add(_EVALUATION, *key, len(event.scores), event.num_samples, *numbers, event.from_cache)
        self._add_evaluating(event.step, event.seconds)
        for score in event.scores:
            counts = (score.num_samples, score.num_correct, _text(score.maj_answer), score.maj_correct)
            reading = (score.num_unparsed, score.num_truncated, _number(score.mean_length))
            self._add(_SCORE, *key, score.problem_id, *counts, *reading)

    @_take.register
    def _(self, event: HeldOutPolled) -> None:
        for name, value in event.metrics.items():
            self._add(_METRIC, self._run_id, event.step, name, _number(value))
        if event.seconds > 0.0:
            self._pace.evaluated(self._clock())
            self._add_evaluating(event.step, event.seconds)

    def _add_evaluating(self, step: int, seconds: float) -> None:
        if step != self._evaluated_step:
            self._evaluated_step, self._evaluating_s = step, 0.0
        self._evaluating_s += seconds
        self._add(_METRIC, self._run_id, step, "seconds.evaluating", _number(self._evaluating_s))

    @_take.register
    def _(self, event: CheckpointSaved) -> None:
        self._add(_CHECKPOINT, self._run_id, event.step, event.path, now())

    @_take.register
    def _(self, event: AlarmRaised) -> None:
        self.last_alarm = event
        _log.warning("alarm %s at step %s (%s): %s", event.alarm, event.step, event.action, event.message)
        numbers = (_number(event.value), _number(event.threshold))
        self._add(_ALARM, self._run_id, event.step, event.alarm, event.message, *numbers, event.action, now())

    @_take.register
    def _(self, event: Noted) -> None:
        self._add(_NOTE, self._run_id, event.step, event.level, event.message, now())

    @_take.register
    def _(self, event: RunFinished) -> None:
        self._add(_ENDED, event.step, event.policy_path, self._run_id)


def _number(value: float | None) -> float | None:
    """A value that is no finite number is stored as unknown: a gap in the chart, never a 0."""
    return value if value is not None and math.isfinite(value) else None


def _text(value: str | None) -> str | None:
    """Text from a model as SQLite can store it: a lone surrogate cannot be written as UTF-8."""
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")
