"""Gains in words."""

import dataclasses

from app.evaluations import established, gain_words, newest_of, split_series
from worker.rows import EvaluationRow

BASE = EvaluationRow(
    1, 0, "adapt", "sums", 96, 8, 0.33, 0.3, 0.36, 0.5, 0.45, 0.55, 0.8, None, None, None, 60, 0, False
)
GAIN = dataclasses.replace(BASE, step=10, avg=0.742, gain=0.412, gain_low=0.35, gain_high=0.471)


def test_a_gain_has_its_interval():
    assert gain_words(GAIN) == "+41.2\u202fpts [+35.0, +47.1]"


def test_a_gain_whose_interval_covers_0_is_not_established():
    weak = dataclasses.replace(GAIN, gain=0.01, gain_low=-0.02, gain_high=0.04)
    assert established(weak) is False
    assert gain_words(weak).startswith("not established (+1.0")


def test_no_evaluation_is_unknown():
    assert gain_words(None) == gain_words(BASE) == "unknown"
    assert established(BASE) is None


def test_the_base_is_no_newest_evaluation():
    assert newest_of([BASE], "adapt") is None
    assert newest_of([BASE, GAIN], "adapt") is GAIN


def test_splits_come_in_the_order_of_their_weight():
    rows = [dataclasses.replace(BASE, split=split) for split in ("benchmark", "held_out", "adapt")]
    assert [series.title for series in split_series(rows)] == ["Adapt", "Held-out", "Benchmark sums"]
