"""How `engine_vs_trl` and its two sides talk: a job as JSON on the command line, one reply per step on a pipe.

Both sides import this module, so it needs nothing beyond Python's own library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TextIO


@dataclass(frozen=True)
class Job:
    """One side's work: `model` and `problems` are paths, `lora_rank` 0 trains all weights, `rows_per_batch` is TRL's
    micro-batch (our side cuts its own). Where `record` names a file, TRL writes its first step's rollouts and moments
    there."""

    model: str
    problems: str
    device: str
    num_votes: int
    num_trained: int
    lora_rank: int
    max_new_tokens: int
    learning_rate: float
    rows_per_batch: int
    seed: int
    max_steps: int
    record: str = ""

    def to_json(self) -> str:
        """One line for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        return cls(**json.loads(text))


class Meter:
    """Seconds of one step: of this process's CPU and by the wall, the waits between steps left out."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """From here on it counts."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds since `start`."""
        return {"cpu_s": time.process_time() - self._cpu, "wall_s": time.perf_counter() - self._wall}


class Side:
    """A side's end of the pipe. Whatever else is printed goes to standard error, so replies stay whole lines."""

    def __init__(self) -> None:
        self._replies: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.meter = Meter()
        self.synchronise: Callable[[], None] = lambda: None

    def ready(self) -> bool:
        """Say that the first step can start, and wait. False where no more steps are wanted."""
        return self.reply({"ready": True})

    def finished(self, facts: dict[str, Any]) -> bool:
        """Report a step with its seconds, and wait for the next. False where no more steps are wanted."""
        self.synchronise()
        return self.reply(facts | self.meter.read())

    def reply(self, message: dict[str, Any]) -> bool:
        """Send one line and wait for the word to go on; the clock starts when it comes."""
        self._replies.write(json.dumps(message) + "\n")
        self._replies.flush()
        go_on = sys.stdin.readline().strip() == "step"
        self.meter.start()
        return go_on
