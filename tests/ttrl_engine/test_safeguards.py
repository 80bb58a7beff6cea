"""Alarms on runs made up to collapse, and silence on healthy ones."""

from __future__ import annotations

import json

import pytest

from ttrl_engine.config import SafeguardConfig
from ttrl_engine.metrics import METRICS
from ttrl_engine.safeguards import Safeguards

HEALTHY = {
    "top_label_share": 0.05, "unparsed_share": 0.1, "truncated_share": 0.1, "entropy": 0.5, "length_mean": 100.0,
    "unanimous_share": 0.1,
    "kl_step": 0.01,
}  # fmt: skip


def watch(guards: Safeguards, steps: list[dict[str, float]], first: int = 1) -> list[tuple[int, str]]:
    """(step, alarm) of everything that fires over steps that differ from a healthy one as given."""
    return [(s, a.alarm) for s, change in enumerate(steps, first) for a in guards.observe(s, {**HEALTHY, **change})]


def test_a_run_that_learns_well_raises_nothing():
    learning = [
        {
            "entropy": 0.5 * 0.9**i,
            "unanimous_share": 1 - 0.9**i,
            "length_mean": 100 - i,
            "top_label_share": max(0.05, 1 / (8 * (i + 1))),
        }
        for i in range(60)
    ]
    assert watch(Safeguards(SafeguardConfig()), learning) == []


@pytest.mark.parametrize(
    ("alarm", "change"),
    [
        ("one_answer_share", {"top_label_share": 0.6}),
        ("unparsed_rise", {"unparsed_share": 0.4}),
        ("truncated_rise", {"truncated_share": 0.5}),
        ("entropy_floor", {"entropy": 0.005}),
        ("entropy_rise", {"entropy": 1.6}),
        ("length_drop", {"length_mean": 5.0}),
        ("kl_jump", {"kl_step": 0.2}),
    ],
)
def test_each_collapse_fires_its_alarm_once_and_again_only_after_it_cleared(alarm, change):
    steps: list[dict[str, float]] = [{}] * 8 + [change] * 4 + [{}] * 8 + [change] * 4
    fired = watch(Safeguards(SafeguardConfig()), steps)
    assert [name for _, name in fired] == [alarm, alarm]
    assert 9 <= fired[0][0] <= 12
    assert 21 <= fired[1][0] <= 24
    off = SafeguardConfig(**{alarm: None})
    assert watch(Safeguards(off), steps) == []


AGREED = {"consensus": 0.9, "flip_share": 0.0}
FIRST_POLL = {"held_out_consensus": 0.5, "held_out_label_variety": 0.9}


def consents(now: dict[str, float], poll: dict[str, float], config: SafeguardConfig | None = None) -> list[str]:
    """What a poll after step 9 raises in a run whose consensus was 0.4 at first; twice, for it must fire once."""
    guards = Safeguards(config or SafeguardConfig())
    assert guards.observe_held_out(0, FIRST_POLL) == []
    watch(guards, [{"consensus": 0.4, "flip_share": 0.3}] * 5 + [now] * 4)
    fired = guards.observe_held_out(9, {**FIRST_POLL, **poll})
    assert guards.observe_held_out(9, {**FIRST_POLL, **poll}) == []
    again = Safeguards.from_state(config or SafeguardConfig(), json.loads(json.dumps(guards.state())))
    assert again.observe_held_out(12, {**FIRST_POLL, **poll}) == [], "an alarm that stays on is raised once"
    return [alarm.alarm for alarm in fired]


def test_agreement_that_held_out_problems_do_not_share_is_false_consensus():
    assert consents(AGREED, {"held_out_consensus": 0.55}) == ["false_consensus"]
    assert consents(AGREED, {"held_out_consensus": 0.9, "held_out_label_variety": 0.4}) == ["false_consensus"]


@pytest.mark.parametrize(
    ("now", "poll"),
    [
        (AGREED, {"held_out_consensus": 0.8}),
        ({**AGREED, "flip_share": 0.1}, {"held_out_consensus": 0.5}),
        ({**AGREED, "consensus": 0.65}, {"held_out_consensus": 0.2}),
        (AGREED, {"held_out_consensus": 0.95, "held_out_label_variety": 0.7}),
    ],
    ids=["held-out problems follow", "labels still change", "consensus has hardly risen", "labels keep their variety"],
)
def test_no_false_consensus_where(now, poll):
    assert consents(now, poll) == []


def test_held_out_problems_that_agree_less_from_the_start_and_follow_are_no_alarm():
    """Polls may be drawn in another way than votes, so their levels say nothing."""
    guards = Safeguards(SafeguardConfig())
    guards.observe_held_out(0, {"held_out_consensus": 0.1})
    watch(guards, [{"consensus": 0.4, "flip_share": 0.3}] * 5 + [AGREED] * 4)
    assert guards.observe_held_out(9, {"held_out_consensus": 0.55}) == []
    (alarm,) = guards.observe_held_out(12, {"held_out_consensus": 0.2})
    assert alarm.value == pytest.approx(0.4)
    assert "from 10% to 20%" in alarm.message


def test_false_consensus_switched_off_or_without_polls_is_silent():
    assert consents(AGREED, {"held_out_consensus": 0.2}, SafeguardConfig(false_consensus=None)) == []
    guards = Safeguards(SafeguardConfig())
    watch(guards, [{"consensus": 0.4, "flip_share": 0.3}] * 5 + [AGREED] * 4)
    assert guards.observe_held_out(9, {}) == []


def test_false_consensus_is_raised_again_after_it_cleared():
    guards = Safeguards(SafeguardConfig())
    guards.observe_held_out(0, FIRST_POLL)
    watch(guards, [{"consensus": 0.4, "flip_share": 0.3}] * 5 + [AGREED] * 4)
    polls = [(9, 0.5), (12, 0.9), (15, 0.5)]
    assert [len(guards.observe_held_out(step, {"held_out_consensus": value})) for step, value in polls] == [1, 0, 1]


def test_an_alarm_says_what_was_seen():
    guards = Safeguards(SafeguardConfig())
    watch(guards, [{}] * 5)
    (alarm,) = guards.observe(6, {**HEALTHY, "kl_step": 0.2})
    assert alarm.value == pytest.approx(20)
    assert alarm.threshold == 10
    assert "0.2 nats" in alarm.message


def test_low_entropy_is_no_alarm_once_the_answers_agree():
    assert watch(Safeguards(SafeguardConfig()), [{}] * 5 + [{"entropy": 0.001, "unanimous_share": 0.9}] * 6) == []


def test_many_answers_alike_from_the_start_are_no_collapse():
    assert watch(Safeguards(SafeguardConfig()), [{"top_label_share": 0.55}] * 10) == []


def test_tiny_shifts_of_a_warm_up_are_no_jump():
    assert watch(Safeguards(SafeguardConfig()), [{"kl_step": 1e-9 * 5**i} for i in range(10)]) == []


def test_broken_and_missing_metrics_are_passed_over():
    guards = Safeguards(SafeguardConfig())
    for step in range(1, 10):
        assert guards.observe(step, {"entropy": float("nan"), "kl_step": float("nan")}) == []


def test_a_policy_that_moves_to_infinity_is_a_jump():
    assert watch(Safeguards(SafeguardConfig()), [{}] * 8 + [{"kl_step": float("inf")}]) == [(9, "kl_jump")]


def test_a_resumed_run_raises_the_same_alarms_at_the_same_steps():
    steps: list[dict[str, float]] = [{}] * 4 + [
        {"unparsed_share": 0.2 + 0.02 * i, "kl_step": 0.01 + 0.03 * (i == 7)} for i in range(20)
    ]
    whole = watch(Safeguards(SafeguardConfig()), steps)
    assert whole
    for cut in range(len(steps)):
        first = Safeguards(SafeguardConfig())
        before = watch(first, steps[:cut])
        second = Safeguards.from_state(SafeguardConfig(), json.loads(json.dumps(first.state())))
        assert before + watch(second, steps[cut:], first=cut + 1) == whole


def test_a_step_observed_twice_counts_once():
    once, twice = Safeguards(SafeguardConfig()), Safeguards(SafeguardConfig())
    for step in range(1, 6):
        once.observe(step, HEALTHY)
        twice.observe(step, HEALTHY)
        twice.observe(step, HEALTHY)
    assert once.state() == twice.state()


def test_metrics_that_need_references_change_nothing():
    plain, measured = Safeguards(SafeguardConfig()), Safeguards(SafeguardConfig())
    for step in range(1, 12):
        with_truth = {name: step % 2 * 1.0 for name, metric in METRICS.items() if metric.needs_references}
        assert measured.observe(step, {**HEALTHY, **with_truth}) == plain.observe(step, HEALTHY)
    assert measured.state() == plain.state()
