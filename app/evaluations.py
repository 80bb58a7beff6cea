"""Evaluations as the pages speak of them: one series per split and problem set, gains in words with n and interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.format import interval, percent, points
from worker.rows import EvaluationRow

SPLIT_WORDS = {"adapt": "Adapt", "held_out": "Held-out", "benchmark": "Benchmark"}
_ORDER = {"adapt": 0, "held_out": 1, "benchmark": 2}


@dataclass(frozen=True)
class SplitSeries:
    """All evaluations of one split of one problem set, first step first."""

    split: str
    problem_set: str
    rows: Sequence[EvaluationRow]

    @property
    def title(self) -> str:
        """What the split is called: the name of the set matters for benchmarks only."""
        if self.split == "benchmark":
            return f"Benchmark {self.problem_set.removeprefix('bundled:')}"
        return SPLIT_WORDS.get(self.split, self.split)

    @property
    def num_problems(self) -> int:
        """n of the newest evaluation."""
        return self.rows[-1].num_problems

    @property
    def num_samples(self) -> int:
        """k of the newest evaluation."""
        return self.rows[-1].num_samples

    @property
    def base(self) -> EvaluationRow | None:
        """The base model's score, if it was taken."""
        return self.rows[0] if self.rows[0].step == 0 else None

    @property
    def newest(self) -> EvaluationRow:
        """The last one."""
        return self.rows[-1]


def split_series(rows: Iterable[EvaluationRow]) -> list[SplitSeries]:
    """One series per split and set: adapt, held-out, then the benchmarks."""
    grouped: dict[tuple[str, str], list[EvaluationRow]] = {}
    for row in rows:
        grouped.setdefault((row.split, row.problem_set), []).append(row)
    found = [
        SplitSeries(split, name, sorted(each, key=lambda row: row.step)) for (split, name), each in grouped.items()
    ]
    return sorted(found, key=lambda series: (_ORDER.get(series.split, 9), series.problem_set))


def newest_of(rows: Iterable[EvaluationRow], split: str) -> EvaluationRow | None:
    """The newest evaluation of a split after step 0, or None."""
    later = [row for row in rows if row.split == split and row.step > 0]
    return max(later, key=lambda row: row.step, default=None)


def established(row: EvaluationRow) -> bool | None:
    """Whether the 95 % interval of the gain leaves 0 out; None where there is no interval."""
    if row.gain_low is None or row.gain_high is None:
        return None
    return row.gain_low > 0 or row.gain_high < 0


def sample_size(row: EvaluationRow) -> str:
    """ "n = 96 problems × 8"."""
    return f"n = {row.num_problems} problems × {row.num_samples}"


def gain_words(row: EvaluationRow | None) -> str:
    """ "+41.2 pts [35.0, 47.1]", "not established (+1.0 pts [−2.0, +4.0])", or "unknown"."""
    if row is None or row.gain is None:
        return "unknown"
    text = f"{points(row.gain)} {interval(row.gain_low, row.gain_high, signed=True)}".rstrip()
    return text if established(row) is not False else f"not established ({text})"


def rate_words(row: EvaluationRow) -> str:
    """ "74.5 % [70.1, 78.8]"."""
    return f"{percent(row.avg)} {interval(row.avg_low, row.avg_high)}".rstrip()
