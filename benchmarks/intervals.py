"""How often the 95 % intervals hold the truth: `python -m benchmarks.intervals`, a few minutes on one core.

Each simulated run draws n problems from a population of known rates, scores base and adapted model on them with k
samples each, and asks whether the intervals of `ttrl_engine.stats` hold the population's pass@1, maj@k and gain.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ttrl_engine.stats import paired_gain, rate_interval, wilson_interval

NUM_RUNS = 2000
NUM_PROBLEMS = (30, 100, 500)
NUM_SAMPLES = (4, 8, 16)
MEASURES = ("pass@1", "maj@k", "gain")
# Problems by which the truth of a population is known to about 0.1 points.
_LARGE = 200_000

Rates: TypeAlias = NDArray[np.float64]
Change: TypeAlias = Literal["none", "few", "sharpened"]


@dataclass(frozen=True)
class Population:
    """Problems of which `parts` (weight, alpha, beta) give the base's chance of a right sample: a mixture of betas.

    `change` says what the run does to them: nothing; a few problems learned; the likely answers sharpened, with a few
    losses.
    """

    name: str
    parts: tuple[tuple[float, float, float], ...]
    change: Change

    def draw(self, size: int, generator: np.random.Generator) -> tuple[Rates, Rates]:
        """(base, adapted) chances of `size` problems, paired."""
        weights, alphas, betas = (np.array(column) for column in zip(*self.parts, strict=True))
        part = generator.choice(len(weights), p=weights, size=size)
        base = generator.beta(alphas[part], betas[part])
        luck = generator.random(size)
        if self.change == "few":
            return base, np.where(luck < 0.08, base + (1 - base) * 0.7, base)
        if self.change == "sharpened":
            better = luck < 0.15 + 0.5 * base
            return base, np.where(better, base + (1 - base) * 0.8, np.where(luck > 0.93, base * 0.2, base))
        return base, base


_BASES = {
    "hard": ((0.8, 0.2, 6.0), (0.2, 1.0, 2.0)),
    "weak": ((0.7, 0.5, 12.0), (0.3, 1.2, 3.0)),
    "middling": ((0.35, 0.6, 3.0), (0.35, 2.0, 2.0), (0.3, 4.0, 1.0)),
    "all or nothing": ((0.4, 0.4, 6.0), (0.6, 6.0, 0.4)),
    "strong": ((0.1, 0.6, 2.0), (0.9, 12.0, 1.0)),
}
_CHANGES: tuple[Change, ...] = ("none", "few", "sharpened")
POPULATIONS = tuple(Population(name, parts, change) for name, parts in _BASES.items() for change in _CHANGES)


def votes(rates: Rates, k: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(right samples of k, whether the vote is right) per problem; wrong samples fall on eight answers by Zipf's law,
    with an exponent of the problem's own, and a tie goes by lot."""
    exponents = generator.uniform(0.3, 3.0, (len(rates), 1))
    wrong = np.arange(1, 9) ** -exponents
    wrong *= ((1 - rates) / wrong.sum(axis=1))[:, None]
    counts = generator.multinomial(k, np.column_stack([rates, wrong]))
    top = counts.max(axis=1)
    ties = (counts == top[:, None]).sum(axis=1)
    return counts[:, 0], (counts[:, 0] == top) & (generator.random(len(rates)) * ties < 1)


def coverage(
    population: Population, num_problems: int, num_samples: int, num_runs: int, generator: np.random.Generator
) -> dict[str, int]:
    """In how many of the simulated runs each interval held the truth of its measure."""
    base, adapted = population.draw(_LARGE, generator)
    majority = votes(base, num_samples, generator)[1]
    truth = {"pass@1": base.mean(), "maj@k": majority.mean(), "gain": (adapted - base).mean()}
    held = dict.fromkeys(MEASURES, 0)
    for _ in range(num_runs):
        base, adapted = population.draw(num_problems, generator)
        right, majority = votes(base, num_samples, generator)
        before = (right / num_samples).tolist()
        after = (generator.binomial(num_samples, adapted) / num_samples).tolist()
        intervals = {
            "pass@1": rate_interval(before),
            "maj@k": wilson_interval(int(majority.sum()), num_problems),
            "gain": paired_gain(before, after)[1:],
        }
        for measure, (low, high) in intervals.items():
            held[measure] += bool(low <= truth[measure] <= high)
    return held


def main() -> None:
    """Print the coverage per n and k over all populations, and the extremes of single populations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help="simulated runs per population, n and k")
    num_runs = parser.parse_args().runs
    generator = np.random.default_rng(20250422)
    overall: dict[str, list[float]] = defaultdict(list)
    print(f"95 % intervals, {num_runs:,} runs of each of {len(POPULATIONS)} populations per line")
    print(f"{'n':>4} {'k':>3}  " + "  ".join(f"{measure:>8} least–most" for measure in MEASURES))
    for num_problems in NUM_PROBLEMS:
        for num_samples in NUM_SAMPLES:
            shares: dict[str, list[float]] = {measure: [] for measure in MEASURES}
            for population in POPULATIONS:
                held = coverage(population, num_problems, num_samples, num_runs, generator)
                for measure in MEASURES:
                    shares[measure].append(100 * held[measure] / num_runs)
            cells = [f"{np.mean(each):8.1f} {min(each):5.1f}–{max(each):4.1f}" for each in shares.values()]
            print(f"{num_problems:>4} {num_samples:>3}  " + "  ".join(cells), flush=True)
            for measure in MEASURES:
                overall[measure] += shares[measure]
    print(
        "all       " + "  ".join(f"{np.mean(each):8.1f} {min(each):5.1f}–{max(each):4.1f}" for each in overall.values())
    )


if __name__ == "__main__":
    main()
