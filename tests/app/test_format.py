"""Numbers as people read them."""

import math

import pytest

from app import format as fmt


@pytest.mark.parametrize("write", [fmt.number, fmt.percent, fmt.points, fmt.duration, fmt.count, fmt.compact, fmt.size])
def test_unknown_is_said_and_never_zero(write):
    assert write(None) == "unknown"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_is_unknown(value):
    assert fmt.percent(value) == fmt.number(value) == fmt.points(value) == "unknown"


def test_a_difference_always_shows_its_sign():
    assert fmt.points(0.412) == "+41.2\u202fpts"
    assert fmt.points(-0.05) == "\u22125.0\u202fpts"
    assert fmt.points(-0.0001) == "+0.0\u202fpts"


def test_an_interval_without_an_end_is_empty():
    assert fmt.interval(0.35, 0.471) == "[35.0, 47.1]"
    assert fmt.interval(None, 0.5) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0\u202fs"), (59, "59\u202fs"), (250, "4\u202fmin 10\u202fs"), (11100, "3\u202fh 05\u202fmin")],
)
def test_durations_in_two_units(seconds, words):
    assert fmt.duration(seconds) == words


def test_a_range_of_time_left():
    assert fmt.duration_range(170, 290) == "3 to 5\u202fmin"
    assert fmt.duration_range(30, 31) == "30 to 31\u202fs"
    assert fmt.duration_range(None, 3) == ""


def test_bytes_in_powers_of_1024():
    assert fmt.size(512) == "512\u202fB"
    assert fmt.size(64 * 2**20) == "64.0\u202fMiB"
    assert fmt.size(252 * 2**30) == "252\u202fGiB"
