"""A gain taken apart, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.events import ProblemScore
from ttrl_engine.gains import Bin, Counts, Pair, Part, by_difficulty, by_length, count, pair_up, sources

K = 8


def score(name: str, right: int, unparsed: int | None = 0, *, vote: bool = False, length: float | None = 9.0):
    return ProblemScore(name, K, right, "1", vote, unparsed, 0, length)


def pair(before: int, after: int, unparsed: tuple[int | None, int | None] = (0, 0), **options: object) -> Pair:
    return Pair(score("p", before, unparsed[0]), score("p", after, unparsed[1]))


def part(pairs: list[Pair], source: str):
    [found] = [each for each in sources(pairs) if each.source == source]
    return found


def test_only_problems_scored_twice_are_paired():
    pairs = pair_up([score("a", 1), score("b", 2)], [score("c", 1), score("b", 3)])
    assert [(each.problem_id, each.gain) for each in pairs] == [("b", 1 / K)]


def test_a_right_answer_among_the_samples_makes_it_sharpening_and_none_makes_it_new():
    pairs = [pair(1, 8), pair(0, 8), pair(8, 4), pair(5, 5)]
    assert part(pairs, "sharpening").gain == pytest.approx(7 / 8 / 4)
    assert part(pairs, "new").gain == pytest.approx(1 / 4)
    assert part(pairs, "lost").gain == pytest.approx(-1 / 2 / 4)
    assert [part(pairs, name).num_problems for name in ("sharpening", "new", "lost", "format")] == [1, 1, 1, 0]


def test_answers_that_became_readable_are_format():
    # Half of the samples could be read, and all of those were right; now all can be.
    assert part([pair(4, 8, (4, 0))], "format").gain == pytest.approx(0.5)
    # Nothing could be read before: the readable answers are taken to be as good as now.
    assert part([pair(0, 6, (8, 0))], "format").gain == pytest.approx(0.75)
    assert part([pair(0, 6, (8, 0))], "new").gain == 0
    # The same answers, fewer of them readable: format takes away.
    assert part([pair(8, 4, (0, 4))], "format").gain == pytest.approx(-0.5)


def test_format_is_left_out_where_it_was_not_counted():
    names = [each.source for each in sources([pair(1, 2, (None, 0)), pair(1, 2)])]
    assert names == ["sharpening", "new", "lost"]


@st.composite
def counts(draw: st.DrawFn) -> Pair:
    unparsed = draw(st.integers(0, K)), draw(st.integers(0, K))
    return pair(draw(st.integers(0, K - unparsed[0])), draw(st.integers(0, K - unparsed[1])), unparsed)


@given(st.lists(counts(), min_size=1, max_size=12))
def test_the_parts_sum_to_the_gain(pairs: list[Pair]):
    gain = sum(each.gain for each in pairs) / len(pairs)
    assert sum(each.gain for each in sources(pairs)) == pytest.approx(gain)
    assert sum(each.gain * each.num_problems for each in by_difficulty(pairs)) / len(pairs) == pytest.approx(gain)


@given(st.lists(counts(), min_size=1, max_size=12))
def test_every_part_has_an_interval_around_it(pairs: list[Pair]):
    found: list[Part | Bin] = [*sources(pairs), *by_difficulty(pairs)]
    for each in found:
        assert -1 <= each.low <= each.gain + 1e-9 <= each.high + 2e-9 <= 1 + 2e-9
        assert each.num_problems <= len(pairs)


def test_an_unchanged_model_gains_what_luck_was_said_to_give():
    generator = np.random.default_rng(0)
    rates = generator.beta(0.6, 1.2, size=4000)
    before, after = generator.binomial(K, rates), generator.binomial(K, rates)
    pairs = [pair(int(b), int(a)) for b, a in zip(before, after, strict=True)]
    for each in sources(pairs):
        assert each.luck is None or each.gain == pytest.approx(each.luck, abs=0.01)
    bins = by_difficulty(pairs)
    assert [each.gain for each in bins] == pytest.approx([each.luck for each in bins], abs=0.025)
    # The effect is no trifle: problems never right seem to gain, those always right to lose.
    assert bins[0].luck > 0.02
    assert bins[-1].luck < -0.02


def test_difficulty_is_the_base_share_of_right_samples():
    pairs = [pair(right, 4) for right in (0, 1, 2, 3, 4, 6, 7, 8, 8)]
    assert [(each.label, each.num_problems) for each in by_difficulty(pairs)] == [
        ("never right", 1),
        ("up to 25 %", 2),
        ("25 to 50 %", 2),
        ("50 to 75 %", 1),
        ("above 75 %", 1),
        ("always right", 2),
    ]


def test_lengths_are_thirds_of_the_base_answers():
    pairs = [Pair(score("p", 1, length=float(length)), score("p", 2)) for length in (10, 20, 30, 40, 50, 60)]
    assert [(each.label, each.num_problems) for each in by_length(pairs)] == [
        ("under 30 tokens", 2),
        ("30 to 50 tokens", 2),
        ("from 50 tokens", 2),
    ]


def test_lengths_that_were_not_stored_give_no_bins():
    assert by_length([Pair(score("p", 1, length=None), score("p", 2))] * 6) == []
    assert by_length([pair(1, 2)] * 6) == []


def test_votes_say_what_was_learned_and_what_degraded():
    votes = [(False, True), (False, True), (True, False), (True, True), (False, False), (False, False)]
    pairs = [Pair(score("p", 0, vote=before), score("p", 0, vote=after)) for before, after in votes]
    assert count(pairs) == Counts(learned=2, degraded=1, stable_right=1, stable_wrong=2)


@pytest.mark.parametrize("k", [1, 4])
def test_a_hopeless_or_a_perfect_base_has_finite_luck(k: int):
    for right in (0, k):
        row = ProblemScore("p", k, right, None, False)
        for each in sources([Pair(row, row)] * 3):
            assert each.luck is not None
            assert -1 <= each.luck <= 1
