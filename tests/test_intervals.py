"""The intervals hold the truth about as often as they say; `python -m benchmarks.intervals` asks in more detail."""

from __future__ import annotations

import numpy as np

from benchmarks.intervals import MEASURES, POPULATIONS, coverage


def test_95_percent_intervals_cover_in_93_to_97_percent_of_2000_runs():
    generator = np.random.default_rng(0)
    num_runs = 2000 // len(POPULATIONS)
    held = dict.fromkeys(MEASURES, 0)
    for population in POPULATIONS:
        for measure, num in coverage(population, 30, 4, num_runs, generator).items():
            held[measure] += num
    for measure, num in held.items():
        assert 0.93 <= num / (num_runs * len(POPULATIONS)) <= 0.97, measure
