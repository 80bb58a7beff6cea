"""Where a gain came from: the difference between two scorings of the same problems, taken apart per problem.

Every part adds to the gain in pass@1, over all n problems, and the parts sum to it exactly. Beside each stands what
luck alone would give it: problems chosen by how the base did in k samples move back towards their true rate when they
are scored again (regression to the mean), so that even an unchanged model seems to gain on the problems it failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ttrl_engine.stats import difference_interval

Source: TypeAlias = Literal["format", "sharpening", "new", "lost"]

_RANGES: dict[Source, tuple[float, float]] = {
    "sharpening": (0.0, 1.0), "new": (0.0, 1.0), "lost": (-1.0, 0.0), "format": (-1.0, 1.0)
}  # fmt: skip


class Score(Protocol):
    """How one problem did in one scoring; `ttrl_engine.events.ProblemScore` is one."""

    @property
    def problem_id(self) -> str: ...
    @property
    def num_samples(self) -> int: ...
    @property
    def num_correct(self) -> int: ...
    @property
    def maj_correct(self) -> bool: ...
    @property
    def num_unparsed(self) -> int | None: ...
    @property
    def num_truncated(self) -> int | None: ...
    @property
    def mean_length(self) -> float | None: ...


@dataclass(frozen=True)
class Pair:
    """One problem scored before and after."""

    before: Score
    after: Score

    @property
    def problem_id(self) -> str:
        """The problem."""
        return self.before.problem_id

    @property
    def gain(self) -> float:
        """Share of right samples after minus before."""
        return _share(self.after) - _share(self.before)


@dataclass(frozen=True)
class Part:
    """One source of the gain: its sum over the problems / n, with a 95 % interval; the problems that it moved.

    `luck` is what scoring an unchanged model a second time would be expected to put here; None where not known.
    """

    source: Source
    num_problems: int
    gain: float
    low: float
    high: float
    luck: float | None


@dataclass(frozen=True)
class Bin:
    """Problems of one kind: their mean gain, its 95 % interval, and the mean gain expected of an unchanged model."""

    label: str
    num_problems: int
    before: float
    gain: float
    low: float
    high: float
    luck: float


@dataclass(frozen=True)
class Counts:
    """Problems by the vote of their samples before and after: learned = wrong then right, degraded = the reverse."""

    learned: int
    degraded: int
    stable_right: int
    stable_wrong: int


def pair_up(before: Iterable[Score], after: Iterable[Score]) -> list[Pair]:
    """The problems that both scorings hold, in the order of the second."""
    known = {score.problem_id: score for score in before}
    return [Pair(known[score.problem_id], score) for score in after if score.problem_id in known]


def count(pairs: Sequence[Pair]) -> Counts:
    """How many problems were learned, degraded and stable."""
    votes = [(pair.before.maj_correct, pair.after.maj_correct) for pair in pairs]
    return Counts(
        votes.count((False, True)), votes.count((True, False)), votes.count((True, True)), votes.count((False, False))
    )


def sources(pairs: Sequence[Pair]) -> list[Part]:
    """The gain by source; `format` only where unreadable samples were counted. Raises ValueError without problems.

    A problem's share of right samples is (share that can be read) × (share of those that is right); its change is
    split between the two factors, each weighted by the mean of the other before and after. The first is `format`. The
    second is `sharpening` where one of the base's k samples was right, `new` where none was, `lost` where it fell.
    """
    kinds: dict[Source, list[float]] = {"sharpening": [], "new": [], "lost": [], "format": []}
    for pair in pairs:
        form, change = _split(pair)
        found_before = pair.before.num_correct > 0
        kinds["sharpening"].append(max(0.0, change) if found_before else 0.0)
        kinds["new"].append(0.0 if found_before else max(0.0, change))
        kinds["lost"].append(min(0.0, change))
        kinds["format"].append(form)
    if not all(_reads(pair) for pair in pairs):
        del kinds["format"]
    luck = _luck(pairs)
    found = []
    for source, values in kinds.items():
        least, most = _RANGES[source]
        low, high = (min(most, max(least, end)) for end in difference_interval(values))
        moved = sum(value != 0 for value in values)
        found.append(Part(source, moved, math.fsum(values) / len(values), low, high, luck.get(source)))
    return found


def by_difficulty(pairs: Sequence[Pair]) -> list[Bin]:
    """By the base's share of right samples; empty bins are left out."""
    groups: dict[str, list[Pair]] = {
        "never right": [], "up to 25 %": [], "25 to 50 %": [], "50 to 75 %": [], "above 75 %": [], "always right": []
    }  # fmt: skip
    names = list(groups)
    for pair in pairs:
        share = _share(pair.before)
        place = 0 if share == 0 else 5 if share == 1 else 1 + sum(share > edge for edge in (0.25, 0.5, 0.75))
        groups[names[place]].append(pair)
    return _bins(groups, _prior(pairs))


def by_length(pairs: Sequence[Pair]) -> list[Bin]:
    """By the mean length of the base's answers, in thirds; empty where lengths were not stored or are all equal."""
    lengths = sorted(pair.before.mean_length for pair in pairs if pair.before.mean_length is not None)
    if len(lengths) < len(pairs) or len(lengths) < 3:
        return []
    first, second = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    if first == second:
        return []
    groups: dict[str, list[Pair]] = {
        f"under {first:,.0f} tokens": [], f"{first:,.0f} to {second:,.0f} tokens": [], f"from {second:,.0f} tokens": []
    }  # fmt: skip
    names = list(groups)
    for pair in pairs:
        length = pair.before.mean_length or 0.0
        groups[names[(length >= first) + (length >= second)]].append(pair)
    return _bins(groups, _prior(pairs))


def _bins(groups: dict[str, list[Pair]], prior: tuple[float, float]) -> list[Bin]:
    found = []
    for label, pairs in groups.items():
        if not pairs:
            continue
        gains = [pair.gain for pair in pairs]
        low, high = difference_interval(gains)
        luck = math.fsum(_expected(pair.before, prior) - _share(pair.before) for pair in pairs) / len(pairs)
        before = math.fsum(_share(pair.before) for pair in pairs) / len(pairs)
        found.append(Bin(label, len(pairs), before, math.fsum(gains) / len(gains), low, high, luck))
    return found


def _split(pair: Pair) -> tuple[float, float]:
    """(change from reading, change among what is read) of a problem's share of right samples; they sum to its gain.

    Where one side could not be read at all, its readable answers are taken to be as often right as the other's.
    """
    if not _reads(pair):
        return 0.0, pair.gain  # what is not known cannot be split off: all of it counts as a change of answers
    before, after = _readable(pair.before), _readable(pair.after)
    if before == 0 and after == 0:
        return 0.0, 0.0
    right_before = _share(pair.before) / before if before else _share(pair.after) / after
    right_after = _share(pair.after) / after if after else right_before
    form = (after - before) * (right_before + right_after) / 2
    return form, (right_after - right_before) * (before + after) / 2


def _luck(pairs: Sequence[Pair]) -> dict[Source, float]:
    """What a second scoring of an unchanged base is expected to gain and to lose by the luck of its samples.

    Beta-binomial: a problem's next k samples given its first, all problems giving the prior. Reading is taken as right
    or wrong like the rest, so nothing is expected of `format`.
    """
    first, second = _prior(pairs)
    luck: dict[Source, float] = {"sharpening": 0.0, "new": 0.0, "lost": 0.0}
    known: dict[tuple[int, int, int], tuple[float, float]] = {}
    for pair in pairs:
        case = (pair.before.num_correct, pair.before.num_samples, pair.after.num_samples)
        if case not in known:
            right, of, k = case
            chances = _beta_binomial(k, first + right, second + of - right)
            changes = [i / k - right / of for i in range(k + 1)]
            up = math.fsum(chance * max(0.0, change) for chance, change in zip(chances, changes, strict=True))
            down = math.fsum(chance * min(0.0, change) for chance, change in zip(chances, changes, strict=True))
            known[case] = up, down
        up, down = known[case]
        luck["sharpening" if pair.before.num_correct else "new"] += up / len(pairs)
        luck["lost"] += down / len(pairs)
    return luck


def _prior(pairs: Sequence[Pair]) -> tuple[float, float]:
    """The beta distribution of the problems' true rates before, by the moments of their shares."""
    shares = [_share(pair.before) for pair in pairs]
    of = math.fsum(pair.before.num_samples for pair in pairs) / len(pairs)
    # Half a problem right and half a problem wrong keep a set without any right answer from being hopeless for sure.
    mean = (math.fsum(shares) + 0.5) / (len(shares) + 1)
    spread = math.fsum((share - mean) ** 2 for share in shares) / len(shares) / (mean * (1 - mean))
    likeness = (spread - 1 / of) / (1 - 1 / of) if of > 1 else 0.5
    strength = 1 / min(0.98, max(0.02, likeness)) - 1
    return mean * strength, (1 - mean) * strength


def _expected(score: Score, prior: tuple[float, float]) -> float:
    return (prior[0] + score.num_correct) / (sum(prior) + score.num_samples)


def _beta_binomial(k: int, first: float, second: float) -> list[float]:
    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    whole = log_beta(first, second)
    return [math.comb(k, i) * math.exp(log_beta(first + i, second + k - i) - whole) for i in range(k + 1)]


def _share(score: Score) -> float:
    return score.num_correct / score.num_samples


def _readable(score: Score) -> float:
    return 1.0 - (score.num_unparsed or 0) / score.num_samples


def _reads(pair: Pair) -> bool:
    return pair.before.num_unparsed is not None and pair.after.num_unparsed is not None
