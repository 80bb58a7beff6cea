"""Two runs on the same problems: whether they can be compared, and what the paired tests say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluations import SplitSeries, split_series
from app.pages.run_records import flat_pairs
from ttrl_engine.gains import Pair, pair_up
from ttrl_engine.stats import difference_interval, mcnemar_exact, sampling_noise, sign_flip_test
from worker.rows import EvaluationRow, RunRow, ScoreRow
from worker.store import Store
from worker.store.problem_sets import SET_PREFIX

LEAST_P = 0.05

# Settings that decide how answers are sampled and marked: where they differ, a difference of scores says nothing.
_EXAM_SETTINGS = (
    "evaluate.num_samples",
    "evaluate.temperature",
    "evaluate.top_p",
    "vote.max_new_tokens",
    "data.prompt",
    "data.prompt_suffix",
    "data.system_prompt",
)


@dataclass(frozen=True)
class Match:
    """The newest scorings of two runs in one split, A before B in every pair: `gain` of a pair is B minus A.

    `refusal` says why the two cannot be compared there; the pairs are empty then.
    """

    key: str
    title: str
    first: EvaluationRow | None
    second: EvaluationRow | None
    pairs: tuple[Pair, ...] = ()
    refusal: str = ""

    @property
    def only_first(self) -> int:
        """Problems that the vote of A answers right and that of B does not."""
        return sum(pair.before.maj_correct and not pair.after.maj_correct for pair in self.pairs)

    @property
    def only_second(self) -> int:
        """Problems that the vote of B answers right and that of A does not."""
        return sum(pair.after.maj_correct and not pair.before.maj_correct for pair in self.pairs)


@dataclass(frozen=True)
class PairedTest:
    """pass@1 of A minus B with its 95 % interval and p-value, the p-value of the votes, and the A/A noise band."""

    lead: float
    low: float
    high: float
    p_avg: float
    p_maj: float
    noise: float | None


def paired_tests(match: Match) -> PairedTest:
    """The paired tests: exact sign flips for pass@1, exact McNemar for maj@k. The match has pairs."""
    leads = [-pair.gain for pair in match.pairs]
    low, high = difference_interval(leads)
    flips = [pair.before.num_correct - pair.after.num_correct for pair in match.pairs]
    both = [score for pair in match.pairs for score in (pair.before, pair.after)]
    # Of one policy as noisy as these two are on average.
    noise = sampling_noise([score.num_correct for score in both], [score.num_samples for score in both])
    return PairedTest(
        lead=sum(leads) / len(leads),
        low=low,
        high=high,
        p_avg=sign_flip_test(flips),
        p_maj=mcnemar_exact(match.only_second, match.only_first),
        noise=None if noise is None else noise * 2**0.5,  # over n problems, not 2 n scores
    )


def matches(
    store: Store,
    first: RunRow,
    second: RunRow,
    evaluations: tuple[Sequence[EvaluationRow], Sequence[EvaluationRow]],
) -> list[Match]:
    """One match per split that either run was scored on after its first step, adapt first."""
    sides = [{_key(series): series for series in split_series(rows)} for rows in evaluations]
    keys = {key: series.title for side in sides for key, series in side.items() if series.newest.step > 0}
    return [
        _match(store, first, second, title, key, sides[0].get(key), sides[1].get(key)) for key, title in keys.items()
    ]


def _key(series: SplitSeries) -> str:
    return series.split if series.split != "benchmark" else f"benchmark:{series.problem_set}"


def _match(
    store: Store,
    first: RunRow,
    second: RunRow,
    title: str,
    key: str,
    series: SplitSeries | None,
    other: SplitSeries | None,
) -> Match:
    for run, side in ((first, series), (second, other)):
        if side is None or side.newest.step == 0:
            return Match(key, title, None, None, refusal=f"“{run.name}” has no score there after its first step.")
    assert series is not None
    assert other is not None
    rows = series.newest, other.newest
    reason = _different_sets(store, first, second, series) or _different_exams(first, second)
    if reason:
        return Match(key, title, *rows, refusal=reason)
    scores = [
        store.scores(run.id, row.step, row.split, row.problem_set)
        for run, row in ((first, series.newest), (second, other.newest))
    ]
    reason = _different_problems(*scores)
    if reason:
        return Match(key, title, *rows, refusal=reason)
    return Match(key, title, *rows, pairs=tuple(pair_up(*scores)))


def _different_sets(store: Store, first: RunRow, second: RunRow, series: SplitSeries) -> str:
    if series.split != "benchmark":
        if first.data_hash == second.data_hash:
            return ""
        return f"They use different problem sets: “{first.set_name}” and “{second.set_name}”."
    # A benchmark is shown by its name, which two sets may share.
    same = _benchmark_refs(store, first, series.problem_set) == _benchmark_refs(store, second, series.problem_set)
    return "" if same else "Two different sets have this name."


def _benchmark_refs(store: Store, run: RunRow, name: str) -> set[str]:
    found = set()
    for ref in run.config.data.benchmarks:
        uploaded = store.problem_set(ref.removeprefix(SET_PREFIX)) if ref.startswith(SET_PREFIX) else None
        if name in (ref, uploaded.name if uploaded else ref):
            found.add(ref)
    return found


def _different_exams(first: RunRow, second: RunRow) -> str:
    names = [
        f"{name} ({value} and {other})"
        for name, value, other in flat_pairs(first.config, second.config)
        if value != other and (name in _EXAM_SETTINGS or name.startswith("answers."))
    ]
    return f"They were scored with different settings: {', '.join(names)}." if names else ""


def _different_problems(scores: Sequence[ScoreRow], others: Sequence[ScoreRow]) -> str:
    ids, other_ids = {score.problem_id for score in scores}, {score.problem_id for score in others}
    if not ids or not other_ids:
        return "Their scores of single problems are not stored."
    if ids != other_ids:
        return (
            f"They were scored on different problems: {len(ids & other_ids):,} of {len(ids | other_ids):,} are the "
            "same. Another seed or share draws another split."
        )
    samples = {score.num_samples for score in (*scores, *others)}
    return "" if len(samples) == 1 else "They were scored with different numbers of samples per problem."
