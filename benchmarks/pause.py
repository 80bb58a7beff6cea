"""How fast a run pauses and is cancelled, through the real worker: `python -m benchmarks.pause`.

A run of the bundled model is asked to pause, or to end, at a random moment of each phase, from another process and by
the same rows as the pages write. Measured is the time from the request until the job's state says that it is met. After
each trial the newest checkpoint is read and the policy is loaded with peft. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ttrl_engine.checkpoint import list_checkpoints, load_state
from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.events import Phase
from ttrl_engine.models import resolve_source
from worker.jobs import JobDesk
from worker.rows import RunRow
from worker.states import JobState
from worker.store import Store, open_store

PHASES = (Phase.SAMPLING, Phase.UPDATING, Phase.EVALUATING, Phase.SAVING)
WORDS = {"pause": JobState.PAUSED, "cancel": JobState.STOPPED}
LIMIT_S = {"pause": 1.0, "cancel": 3.0}
# The phase is written down at most this much later than it begins.
SPREAD_S = 0.5
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Trial:
    """One request: what was asked in which phase, how long it took, and whether what was saved could be loaded."""

    word: str
    phase: str
    seconds: float
    step: int
    loads: bool


def job(num_ranks: int) -> RunConfig:
    """The demo job, scored and saved at every step so that each phase comes round, and long enough never to end."""
    changes = {"train.epochs": 200, "evaluate.every_steps": 1, "checkpoint.every_steps": 1, "data.benchmarks": ()}
    return PRESETS["quick-look"].config().with_changes(**changes, **{"hardware.gpus": num_ranks})


@contextmanager
def working(data_dir: Path) -> Iterator[None]:
    """A worker of its own for the data folder."""
    with (data_dir / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker", "--data-dir", str(data_dir)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def wait_for(store: Store, run_id: int, holds: Callable[[RunRow], bool]) -> RunRow:
    """The run once it is as wanted. Raises RuntimeError where it fails or that takes too long."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        run = store.run(run_id)
        assert run is not None
        if holds(run):
            return run
        if run.state in (JobState.FAILED, JobState.LOST, JobState.FINISHED):
            raise RuntimeError(f"The run is {run.state}: {run.job.reason} {store.log_tail(run_id)[-2000:]}")
        time.sleep(0.01)
    raise RuntimeError(f"Waited {PATIENCE_S:.0f} s in vain for run {run_id}: {store.log_tail(run_id)[-2000:]}")


def loads(folder: Path) -> bool:
    """Whether the newest checkpoint can be read and the policy beside it be loaded on its base model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    saved = list_checkpoints(folder)
    if not saved:
        return False
    base = AutoModelForCausalLM.from_pretrained(resolve_source(job(1).model.source))
    for weights in (saved[-1][1], folder / "policy"):
        PeftModel.from_pretrained(base, str(weights)).unload()
    return load_state(saved[-1][1]).step == saved[-1][0]


def trial(desk: JobDesk, run_id: int, word: str, phase: Phase, dice: random.Random) -> Trial:
    """Ask at a random moment of a phase and wait until it is done."""
    store = desk.store
    wait_for(store, run_id, lambda run: run.phase == phase and run.step >= 1 and run.state is JobState.RUNNING)
    if phase is not Phase.SAVING:
        time.sleep(dice.uniform(0.0, SPREAD_S))
    run = store.run(run_id)
    assert run is not None
    asked_s = time.monotonic()
    (desk.pause if word == "pause" else desk.cancel)(run.job_id)
    ended = wait_for(store, run_id, lambda run: run.state is WORDS[word])
    seconds = time.monotonic() - asked_s
    return Trial(word, run.phase or "?", seconds, ended.step, loads(store.run_folder(run_id)))


def measure(data_dir: Path, repeats: int, num_ranks: int, seed: int) -> list[Trial]:
    """All trials: a paused run goes on for the next one, a cancelled one is followed by another."""
    store = open_store(data_dir)
    desk = JobDesk(store)
    dice = random.Random(seed)
    trials = []
    numbers = iter(range(10_000))

    def submit() -> int:
        return desk.submit_run(job(num_ranks), f"trial {next(numbers)}")

    with working(data_dir):
        for word in WORDS:
            run_id = submit()
            for phase in PHASES * repeats:
                found = trial(desk, run_id, word, phase, dice)
                trials.append(found)
                print(
                    f"{found.word:<8}{found.phase:<12}{found.seconds:>7.2f} s  step {found.step:<4}"
                    f"{'loads' if found.loads else 'DOES NOT LOAD'}",
                    flush=True,
                )
                if word == "pause":
                    run = store.run(run_id)
                    assert run is not None
                    desk.resume(run.job_id)
                else:
                    run_id = submit()
            last = store.run(run_id)
            assert last is not None
            desk.cancel(last.job_id)
    return trials


def report(trials: list[Trial]) -> list[str]:
    """The printed table, the JSON object last."""
    lines = ["", f"{'asked':<8}{'n':>4}{'median':>9}{'largest':>9}{'limit':>8}{'loads':>8}"]
    result = {}
    for word in WORDS:
        seconds = [each.seconds for each in trials if each.word == word]
        loaded = sum(each.loads for each in trials if each.word == word)
        median, largest = statistics.median(seconds), max(seconds)
        lines.append(
            f"{word:<8}{len(seconds):>4}{median:>9.2f}{largest:>9.2f}{LIMIT_S[word]:>8.1f}{loaded:>5}/{len(seconds)}"
        )
        result[word] = {
            "n": len(seconds),
            "median_s": round(median, 3),
            "max_s": round(largest, 3),
            "loads": loaded,
            "within_limit": sum(second <= LIMIT_S[word] for second in seconds),
        }
    return [*lines, json.dumps(result)]


def main() -> int:
    """Measure and print; 1 where anything that was saved could not be loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="trials per phase and word")
    parser.add_argument("--ranks", type=int, default=1, help="processes of the run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = measure(Path(folder), arguments.repeats, arguments.ranks, arguments.seed)
    print("\n".join(report(trials)))
    return 0 if all(each.loads for each in trials) else 1


if __name__ == "__main__":
    raise SystemExit(main())
