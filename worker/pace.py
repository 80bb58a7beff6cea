"""How long a run still takes, from how long its last steps took."""

from __future__ import annotations

import math
import statistics
from collections import deque

WINDOW = 30
"""So many recent steps speak for those to come; evaluations and checkpoints in between count with their share."""

_Z = 1.645  # 90 % of a normal distribution lies within so many deviations.


class Pace:
    """Wall seconds from one finished step to the next, whatever happened in between. Times are of any steady clock."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._step_at_s = self._round_at_s = 0.0
        self._evaluation_s = 0.0

    def start(self, at_s: float) -> None:
        """The first step, or the evaluation before it, begins."""
        self._step_at_s = self._round_at_s = at_s

    def step_finished(self, at_s: float) -> None:
        """A step is finished."""
        self._seconds.append(at_s - self._step_at_s)
        self._step_at_s = self._round_at_s = at_s

    def evaluated(self, at_s: float) -> None:
        """One of the exams after a step, or before the first, is done."""
        self._evaluation_s = at_s - self._round_at_s
        if not self._seconds:
            # The base is scored only once: it is no part of the steps to come.
            self._step_at_s = at_s

    def left_s(self, num_steps: int) -> tuple[float, float] | None:
        """A range of seconds for `num_steps` more steps and the last evaluation; None before two steps were seen.

        The sum of m further steps spreads with their own scatter (m·s²) and with that of the mean seen (m²·s²/n).
        """
        seen = len(self._seconds)
        if num_steps <= 0:
            return (0.0, self._evaluation_s)
        if seen < 2:
            return None
        mean = statistics.fmean(self._seconds)
        spread = _Z * statistics.stdev(self._seconds) * math.sqrt(num_steps + num_steps**2 / seen)
        # Never below what the fastest step seen would need.
        low = max(num_steps * min(self._seconds), num_steps * mean - spread)
        return (low + self._evaluation_s, num_steps * mean + spread + self._evaluation_s)
