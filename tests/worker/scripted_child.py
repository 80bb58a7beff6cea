"""The child process with an engine that follows a script instead of loading a model.

The script is the name of the run, words of the form key=value:
  sleep=0.05      seconds per step
  stubborn=1      SIGTERM and should_stop are ignored
  oom@3 bad@3 exit@3 kill@3 alarm@3 roll_back@3     what happens after step 3 (kill: only if the marker file is absent)
"""

# ruff: noqa: ARG002 (the signatures are those of the engine)

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttrl_engine.asking import Asking
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import DataError, RunError
from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    ClassCount,
    ElectionHeld,
    Emit,
    Ending,
    EvaluationFinished,
    Noted,
    Phase,
    ProblemScore,
    Progressed,
    RunFinished,
    RunStarted,
    Split,
    StepFinished,
)
from ttrl_engine.preflight import Findings, Poll
from ttrl_engine.problems import Problem, ProblemSet
from ttrl_engine.sampler import StopRequested
from worker.child import leave, main
from worker.engine import BaseScoreTable


class ScriptedEngine:
    """Emits what a real run would, in the same order, from numbers that depend on the step alone."""

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
        script = dict(
            word.replace("@", "=").split("=", 1) for word in config.name.split() if "=" in word or "@" in word
        )
        if script.get("stubborn"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        total = config.train.max_steps or 3
        checkpoints = folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        done = max((int(path.name) for path in checkpoints.iterdir()), default=0)
        emit(Progressed(0, Phase.LOADING, 0, 1))
        if done:
            emit(Noted(done, "info", f"Resumed from the checkpoint of step {done}."))
        emit(RunStarted("scripted", 10, 5, "cpu", "scripted", 1, 4, 2, done + 1, total))
        if done == 0:
            base_scores.put("base", {"scores": []})
            emit(evaluation(0))
        ending = Ending.COMPLETED
        for step in range(done + 1, total + 1):
            if should_stop() and not script.get("stubborn"):
                ending = Ending.STOPPED
                break
            time.sleep(float(script.get("sleep", 0)))
            emit_step(emit, step, total)
            done = step
            if step % config.checkpoint.every_steps == 0 or step == total:
                save(emit, checkpoints, step)
            if misfortune(script, step, folder, emit):
                ending = Ending.ALARM
                break
        if ending is not Ending.COMPLETED:
            save(emit, checkpoints, done)
        policy = folder / "policy"
        policy.mkdir(exist_ok=True)
        (policy / "adapter_model.safetensors").write_bytes(b"weights")
        finished = RunFinished(ending, done, str(policy))
        emit(finished)
        return finished

    def roll_back(self, folder: Path, emit: Emit, wanted: int | None) -> RunFinished:
        newest = max(int(path.name) for path in (folder / "checkpoints").iterdir())
        step = newest - 1 if wanted is None else wanted
        if not (folder / "checkpoints" / str(step)).is_dir():
            raise RunError(f"There is no checkpoint of step {step} any more.")
        finished = RunFinished(Ending.ALARM, step, str(folder / "policy"))
        emit(finished)
        return finished

    def inspect(
        self,
        config: RunConfig,
        problem_set: ProblemSet,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Findings:
        on_progress(16, 16)
        return Findings((Poll("p", (9, 3), 16, 4, 0),), len(problem_set.problems), 20.0, 0.01, 0.02)

    def answer_both(
        self,
        asking: Asking,
        problem: Problem,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        on_side: Callable[[str, dict[str, Any]], None],
    ) -> Mapping[str, Any]:
        for done in range(1, 2 * asking.num_samples + 1):
            while "wait" in problem.prompt and not should_stop():
                on_side("base", {"growing": [{"text": "so far", "length": 2, "ended": False}]})
                time.sleep(0.05)
            if should_stop():
                raise StopRequested
            time.sleep(0.01)
            on_progress(done, 2 * asking.num_samples)
        return {
            "base": {"label": "1"},
            "adapted": {"label": "2"},
            "problem": problem.prompt,
            "weights": asking.weights.name,
        }

    def answer_all(
        self,
        asking: Asking,
        problems: Sequence[Problem],
        emit: Callable[[str, str, dict[str, Any]], None],
        known: Collection[tuple[str, str]],
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        for name in ("base", "adapted"):
            for problem in problems:
                if (name, problem.id) in known:
                    continue
                answer = {"text": f"{name} {asking.seed}", "answer": "1", "length": 3, "finish": "stop", "reason": None}
                emit(name, problem.id, {"answers": [answer], "classes": [], "label": "1", "consensus": 1.0})
                on_progress(1, 2)
                # Killed in the middle, once: what was written by then is not asked again.
                if problem.id == "p1" and name == "adapted" and not (asking.weights / "killed").exists():
                    (asking.weights / "killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)


def save(emit: Emit, checkpoints: Path, step: int) -> None:
    emit(Progressed(step, Phase.SAVING, 0, 1))
    (checkpoints / str(step)).mkdir(exist_ok=True)
    emit(CheckpointSaved(step, str(checkpoints / str(step))))


def emit_step(emit: Emit, step: int, total: int) -> None:
    emit(Progressed(step, Phase.SAMPLING, 3, 8))
    for problem in range(4):
        classes = (ClassCount(str(step % 3), 5, True), ClassCount("9", 2, False))
        emit(ElectionHeld(step, f"p{problem}", str(step % 3), None, 0.6, 0.3, 8, 2, 1, 0, classes, 0.6, True, 0.9, 0.6))
    metrics = {"consensus": 0.5 + step / 1000, "loss": math.sin(step), "grad_norm": math.nan if step == 2 else 1.0}
    emit(StepFinished(step, total, metrics, {"sampling": 0.25, "updating": 0.5}))
    if step % 2 == 0:
        emit(evaluation(step))


def evaluation(step: int) -> EvaluationFinished:
    gain = None if step == 0 else step / 100
    scores = (ProblemScore("p0", 4, 2, "1", True), ProblemScore("p1", 4, 0, None, False))
    rates = (0.3, 0.2, 0.4, 0.5, 0.4, 0.6, 0.7)
    return EvaluationFinished(step, Split.ADAPT, "six sums", 4, *rates, gain, gain, gain, 12.0, 0.0, scores, False, 1.5)


def misfortune(script: Mapping[str, str], step: int, folder: Path, emit: Emit) -> bool:
    """Do what the script has for this step; True for an alarm."""
    if script.get("oom") == str(step):
        raise MemoryError
    if script.get("bad") == str(step):
        raise DataError("Row 7 has no text.")
    if script.get("exit") == str(step):
        os._exit(5)
    if script.get("kill") == str(step):
        # Rows that wait must not be written, as when the kernel kills it.
        os.kill(os.getpid(), signal.SIGKILL)
    marker = folder / "killed once"
    if script.get("kill_once") == str(step) and not marker.exists():
        marker.write_text(json.dumps(step))
        os.kill(os.getpid(), signal.SIGKILL)
    for action, name in (("pause", "alarm"), ("roll_back", "roll_back")):
        if script.get(name) == str(step) and not (folder / action).exists():
            (folder / action).touch()
            emit(AlarmRaised(step, "one_answer", "Nearly all problems elect the same answer.", 0.9, 0.5, action))
            return True
    return False


if __name__ == "__main__":
    leave(main(ScriptedEngine()))
