"""Whether two ways of training learn alike: the same seeds on both sides, compared by the area under their curves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Two-sided 95 % points of Student's t for 1 to 10 degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Comparison:
    """Curves per seed and step, shares in 0..1, and Welch's test on their means.

    `difference` is ours minus TRL's in the mean over steps and seeds; `half_width` that of its 95 % interval.
    """

    trl: list[list[float]]
    ours: list[list[float]]
    difference: float
    half_width: float

    @property
    def agree(self) -> bool:
        """Whether the interval holds 0: what is seen may be the noise of the seeds."""
        return abs(self.difference) <= self.half_width

    def lines(self) -> list[str]:
        """The printed report."""
        rows = [f"Learning curves: share of right rollouts by step, mean of {len(self.trl)} seeds"]
        for name, curves in (("TRL", self.trl), ("ours", self.ours)):
            means = [statistics.fmean(at) for at in zip(*curves, strict=True)]
            rows.append(f"  {name:<6}" + " ".join(f"{value:.2f}" for value in means))
        rows.append(
            f"  Mean over the steps, ours minus TRL: {self.difference:+.3f}, 95 % interval ± {self.half_width:.3f} "
            f"(Welch's t, seeds as the sample): {'they agree' if self.agree else 'THEY DIFFER'}."
        )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"agree": self.agree}


def compare_curves(trl: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> Comparison:
    """Curves of at least two seeds per side, all of the same length."""
    areas = [[statistics.fmean(curve) for curve in side] for side in (trl, ours)]
    parts = [statistics.variance(side) / len(side) for side in areas]
    difference = statistics.fmean(areas[1]) - statistics.fmean(areas[0])
    error = math.sqrt(sum(parts))
    return Comparison(
        [list(curve) for curve in trl],
        [list(curve) for curve in ours],
        difference,
        error * T_95[_freedom(parts, [len(side) for side in areas]) - 1],
    )


def _freedom(parts: Sequence[float], counts: Sequence[int]) -> int:
    """Welch and Satterthwaite's degrees of freedom, rounded down: the wider interval."""
    total = sum(parts)
    if total == 0.0:
        return min(len(T_95), sum(counts) - 2)
    freedom = total**2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return max(1, min(len(T_95), math.floor(freedom + 1e-9)))
