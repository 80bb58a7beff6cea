"""Runs that go wrong on purpose: which safeguard fires, at which step, and what the rollouts were worth by then.

The bundled model on a few bundled problems, once with settings that learn and then with settings that are known to
break a policy. References only say what was lost; no safeguard sees them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.events import AlarmRaised, Event, HeldOutPolled, StepFinished
from ttrl_engine.problems import load_problem_set
from ttrl_engine.threads import wait_politely

_SMALL: Final[Mapping[str, Any]] = {
    "data.benchmarks": (),
    "data.max_problems": 32,
    "data.held_out_share": 0.375,
    "vote.num_votes": 16,
    "vote.num_trained": 16,
    "vote.max_new_tokens": 96,
    "train.problems_per_step": 5,
    "train.epochs": 20,
    "train.max_steps": 16,
    "evaluate.every_steps": 4,
    "evaluate.num_samples": 4,
    "checkpoint.every_steps": 2,
    "safeguards.action": "note",
}

_FULL: Final[Mapping[str, Any]] = {"model.method": "full", "train.schedule": "constant"}

SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "quick look, as it is": {},
    "every weight, rate rising to 2e-2": {**_FULL, "train.learning_rate": 2e-2, "train.warmup_share": 0.9},
    "every weight, rate 3e-3": {**_FULL, "train.learning_rate": 3e-3, "train.warmup_share": 0.2},
    "every weight, rate 1e-3": {**_FULL, "train.learning_rate": 1e-3, "train.warmup_share": 0.2},
    "adapter, rate 2e-2": {"train.learning_rate": 2e-2, "train.schedule": "constant", "train.warmup_share": 0.5},
    "every weight, rewards by lot": {
        **_FULL,
        "train.learning_rate": 1e-3,
        "train.warmup_share": 0.2,
        "vote.reward": "random",
    },
}
"""Name -> what differs from the small run of the preset `quick-look`."""


@dataclass
class Record:
    """What the events of one run said."""

    steps: list[StepFinished] = field(default_factory=list)
    polls: list[HeldOutPolled] = field(default_factory=list)
    alarms: list[AlarmRaised] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Keep one event."""
        if isinstance(event, StepFinished):
            self.steps.append(event)
        elif isinstance(event, HeldOutPolled):
            self.polls.append(event)
        elif isinstance(event, AlarmRaised):
            self.alarms.append(event)

    def lines(self, name: str, seconds: float) -> list[str]:
        """What happened, then a line per alarm."""
        first, last = self.steps[0].metrics, self.steps[-1].metrics
        changes = ", ".join(
            f"{title} {first[metric]:.2f} to {last[metric]:.2f}"
            for title, metric in (("right rollouts", "truth_share"), ("consensus", "consensus"), ("entropy", "entropy"))
        )
        fired = [f"    step {alarm.step:>2}  {alarm.alarm}: {alarm.message}" for alarm in self.alarms]
        return [f"{name}: {len(self.steps)} steps in {seconds:.0f} s; {changes}", *(fired or ["    no alarm"])]


def collapsing_config(setting: str, **changes: Any) -> RunConfig:
    """The config of one of the SETTINGS, with further changes."""
    return PRESETS["quick-look"].config().with_changes(**{**_SMALL, **SETTINGS[setting], **changes})


def measure(names: Sequence[str], seed: int, threads: int) -> None:
    """Run the settings one after the other and print what fired."""
    from ttrl_engine import trainer  # loads torch, which a wrong argument should not wait for

    problem_set = load_problem_set("bundled:sums")
    for name in names:
        record, start = Record(), time.monotonic()
        config = collapsing_config(name, seed=seed, **{"hardware.threads": threads})
        with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as folder:
            trainer.run(config, Path(folder), problem_set, {}, record.emit)
        print("\n".join(record.lines(name, time.monotonic() - start)), flush=True)


def main() -> int:
    """All settings, or those whose names contain a word."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collapse", description=__doc__)
    parser.add_argument("--only", default="", help="settings whose names contain this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    wait_politely()
    measure([name for name in SETTINGS if options.only in name], options.seed, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
