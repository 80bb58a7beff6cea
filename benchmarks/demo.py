"""The default demo job without a browser, measured: `make bench-demo`.

Prints where the time of a step goes, rollouts per second, and the accuracy curve; the last line is one JSON object.
Every figure is taken from the run's own events; the clock is read as they arrive.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.events import EvaluationFinished, Event, Phase, RunStarted, Split, StepFinished
from ttrl_engine.problems import load_problem_set
from ttrl_engine.threads import wait_politely

PHASES = (Phase.SAMPLING, Phase.VOTING, Phase.UPDATING, Phase.EVALUATING)


@dataclass
class Record:
    """What the events of one run said, in order."""

    started: RunStarted | None = None
    steps: list[StepFinished] = field(default_factory=list)
    evaluations: list[EvaluationFinished] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Keep one event."""
        if isinstance(event, RunStarted):
            self.started = event
        elif isinstance(event, StepFinished):
            self.steps.append(event)
        elif isinstance(event, EvaluationFinished):
            self.evaluations.append(event)

    def phase_seconds(self) -> dict[str, float]:
        """Wall seconds of the whole run by phase."""
        totals = {phase.value: sum(step.seconds.get(phase, 0.0) for step in self.steps) for phase in PHASES}
        totals[Phase.EVALUATING.value] = sum(evaluation.seconds for evaluation in self.evaluations)
        return totals

    def of(self, split: Split) -> list[EvaluationFinished]:
        """The evaluations of one split, in the order of the steps."""
        return [evaluation for evaluation in self.evaluations if evaluation.split is split]


def ends(evaluations: list[EvaluationFinished]) -> dict[str, float] | None:
    """Base and adapted accuracy of a split, and the vote of the base model; None where it was not scored."""
    if not evaluations:
        return None
    base, adapted = evaluations[0], evaluations[-1]
    return {
        "base_pass1": round(base.avg, 4),
        "adapted_pass1": round(adapted.avg, 4),
        "base_maj": round(base.maj, 4),
    }


def report(record: Record, seconds: float) -> list[str]:
    """The printed lines, the JSON object last."""
    num_steps = len(record.steps)
    lines = ["", f"{'phase':<12}{'s per step':>12}{'s in all':>12}"]
    for phase, total in record.phase_seconds().items():
        lines.append(f"{phase:<12}{total / max(1, num_steps):>12.2f}{total:>12.1f}")
    lines.append(f"{'whole run':<12}{seconds / max(1, num_steps):>12.2f}{seconds:>12.1f}")
    rates = [step.metrics["rollouts_per_s"] for step in record.steps if "rollouts_per_s" in step.metrics]
    if rates:
        lines.append(f"rollouts per second while sampling: {sum(rates) / len(rates):.0f}")
    lines += ["", f"{'step':>5}  {'split':<10}{'problem set':<26}{'n':>5}  {'pass@1 [95 %]':<24}{'maj@k':>7}"]
    for found in record.evaluations:
        rate = f"{found.avg:6.1%} [{found.avg_low:.1%}, {found.avg_high:.1%}]"
        lines.append(
            f"{found.step:>5}  {found.split.value:<10}{found.problem_set[:25]:<26}{len(found.scores):>5}  "
            f"{rate:<24}{found.maj:>7.1%}"
        )
    lines.append(json.dumps(summary(record, seconds)))
    return lines


def summary(record: Record, seconds: float) -> dict[str, Any]:
    """The last line as plain data."""
    return {
        "seconds": round(seconds, 1),
        "steps": len(record.steps),
        "threads": record.started.threads if record.started else None,
        "adapt": ends(record.of(Split.ADAPT)),
        "held_out": ends(record.of(Split.HELD_OUT)),
    }


def measure(config: RunConfig, folder: Path) -> tuple[Record, float]:
    """Run the job in an empty folder. Returns what it said, and its wall seconds from the loaded problems on."""
    problem_set = load_problem_set(config.data.problems)
    benchmarks = {ref: load_problem_set(ref) for ref in config.data.benchmarks}
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    wait_politely()
    from ttrl_engine import trainer  # importing torch is no part of what is measured

    record = Record()

    def emit(event: Event) -> None:
        record.emit(event)
        if isinstance(event, StepFinished):
            consensus = event.metrics.get("consensus", float("nan"))
            seconds = sum(event.seconds.values())
            print(f"step {event.step:>3}/{event.total_steps}  consensus {consensus:.2f}  {seconds:.1f} s", flush=True)
        elif isinstance(event, EvaluationFinished):
            print(f"step {event.step:>3}  {event.split.value} {event.problem_set}: pass@1 {event.avg:.1%}", flush=True)

    start = time.monotonic()
    trainer.run(
        config=config,
        folder=folder,
        problem_set=problem_set,
        benchmarks=benchmarks,
        emit=emit,
        should_stop=lambda: False,
    )
    return record, time.monotonic() - start


def main() -> int:
    """Measure the preset `quick-look`, or another one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--preset", default="quick-look", choices=sorted(PRESETS))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all but one")
    parser.add_argument("--max-steps", type=int, default=None, help="stop after so many steps")
    options = parser.parse_args()
    changes = {"hardware.threads": options.threads, "train.max_steps": options.max_steps}
    config = PRESETS[options.preset].config().with_changes(**changes)
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as folder:
        record, seconds = measure(config, Path(folder))
    print("\n".join(report(record, seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
