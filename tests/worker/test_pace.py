"""The estimate of what a run still takes."""

from __future__ import annotations

import pytest

from worker.pace import Pace


def _pace(*seconds: float) -> Pace:
    pace, at_s = Pace(), 100.0
    pace.start(at_s)
    for each in seconds:
        at_s += each
        pace.step_finished(at_s)
    return pace


def test_one_step_is_not_enough_to_say():
    assert _pace(2.0).left_s(10) is None


def test_even_steps_leave_no_doubt():
    assert _pace(2.0, 2.0, 2.0).left_s(10) == pytest.approx((20.0, 20.0))


def test_uneven_steps_widen_the_range_around_their_mean():
    low, high = _pace(1.0, 3.0, 1.0, 3.0).left_s(10) or (0.0, 0.0)
    assert 10.0 <= low < 20.0 < high


def test_nothing_left_takes_no_time():
    assert _pace(1.0).left_s(0) == (0.0, 0.0)


def test_old_steps_are_forgotten():
    assert _pace(*[100.0] * 5, *[1.0] * 30).left_s(10) == pytest.approx((10.0, 10.0))


def test_scoring_the_base_is_no_step_but_tells_what_the_last_evaluation_takes():
    pace = Pace()
    pace.start(0.0)
    pace.evaluated(5.0)
    pace.evaluated(9.0)
    pace.step_finished(10.0)
    pace.step_finished(11.0)
    assert pace.left_s(10) == pytest.approx((19.0, 19.0))
    assert pace.left_s(0) == (0.0, 9.0)
