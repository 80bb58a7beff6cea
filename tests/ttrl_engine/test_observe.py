"""The metrics of a step, computed by hand."""

from __future__ import annotations

import math

import pytest

from tests.ttrl_engine.test_vote import hold
from ttrl_engine.config import VoteConfig
from ttrl_engine.learner import Ballot, StepOutcome
from ttrl_engine.metrics import METRICS
from ttrl_engine.observe import election_events, step_metrics
from ttrl_engine.policy import UpdateStats
from ttrl_engine.problems import Problem
from ttrl_engine.reward import advantages, earned
from ttrl_engine.sampler import Rollout
from ttrl_engine.selection import select
from ttrl_engine.tasks import get_task
from ttrl_engine.variety import answer_entropy

TASK = get_task("math")


def cast(name: str, *answers: str | None, num_trained: int = 2, **options) -> Ballot:
    """A ballot of a problem whose rollouts gave these answers; every rollout has 2 tokens of 0.5 nats."""
    vote = VoteConfig(num_votes=len(answers), num_trained=num_trained, **options)
    election = hold(*answers, min_consensus=vote.min_consensus, min_margin=vote.min_margin)
    paid = earned(election, vote, 0, 1)
    trained = select(election, num_trained, vote.selection)
    rollouts = tuple(Rollout((5, 6), (-0.5, -0.5), "length" if each is None else "stop") for each in answers)
    return Ballot(
        Problem(name, "?"), (1,), rollouts, tuple(map(str, answers)), election, tuple(paid), trained,
        tuple(advantages([paid[i] for i in trained], "mean")),
    )  # fmt: skip


def metrics(*ballots: Ballot, references=None, before=None) -> dict[str, float]:
    update = UpdateStats(**dict.fromkeys(UpdateStats.__dataclass_fields__, 0))
    outcome = StepOutcome(1, ballots, update, 1e-3, 0.0)
    return step_metrics(outcome, TASK, references or {}, before or {}, {})


def test_a_step_against_hand_computed_values():
    found = metrics(
        cast("right", "1", "1.0", "1", "2"),
        cast("wrong", "3", "4", "4", "4"),
        cast("tied", "5", "5", "6", "6"),
        cast("silent", None, None, None, "8"),
        references={"right": "1", "wrong": "3", "tied": "5", "silent": "9"},
        before={"right": "none of these", "tied": "5"},
    )
    wanted = {
        "consensus": (3 / 4 + 3 / 4 + 2 / 4 + 1 / 4) / 4,
        "margin": (2 / 4 + 2 / 4 + 0 + 1 / 4) / 4,
        "num_classes": (2 + 2 + 2 + 1) / 4,
        "abstained_share": 1 / 4,
        "unparsed_share": 3 / 16,
        "truncated_share": 3 / 16,
        "unanimous_share": 0.0,
        # The first two of "right" both earn 1, those of "tied" and "silent" both earn 0; only "wrong" differs.
        "zero_advantage_share": 3 / 4,
        "reward_mean": (3 + 3 + 0 + 1) / 16,
        "trained_reward_mean": (2 + 1 + 0 + 0) / 8,
        "label_accuracy": 1 / 4,
        # right: 1. wrong: 1 - p - q = 1 - 3/4 - 1/4. tied, without a label: 1 - q = 1/2. silent: 1 - 1/4 - 0.
        "reward_accuracy": (1 + 0 + 1 / 2 + 3 / 4) / 4,
        "truth_share": (3 / 4 + 1 / 4 + 2 / 4 + 0) / 4,
        "pass_any": 3 / 4,
        "trained_reward_accuracy": (1 + 0 + 0 + 1) / 4,
        "trained_truth_share": (1 + 1 / 2 + 1 + 0) / 4,
        "trained_pass_any": 3 / 4,
        "flip_share": 1.0,
        "entropy": 0.5,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert set(found) <= set(METRICS)


def test_the_variety_of_answers_is_0_when_all_agree_and_1_when_none_do():
    assert answer_entropy(hold("1", "1.0", "1", None)) == 0.0
    assert answer_entropy(hold("1", "2", "3", None)) == pytest.approx(1.0)
    assert answer_entropy(hold("1", "1", "2", "3")) == pytest.approx(1.5 * math.log(2) / math.log(4))
    assert answer_entropy(hold("1", None, None)) is None
    assert "answer_entropy" not in metrics(cast("a", "1", None), cast("b", None, None))


def test_labels_alike_on_every_problem_show():
    found = metrics(*(cast(f"p{i}", "7", "7") for i in range(9)), cast("p9", "1", "1"))
    assert found["top_label_share"] == 0.9
    assert "top_label_share" not in metrics(cast("a", "7", "7")), "too few to say"


def test_the_label_is_measured_alike_whatever_the_run_pays():
    answers, reference = ("2", "1", "1", "1"), {"p": "1"}
    plain = metrics(cast("p", *answers), references=reference)
    soft = metrics(cast("p", *answers, reward="soft"), references=reference)
    assert soft["reward_accuracy"] == plain["reward_accuracy"] == 1.0
    assert soft["reward_mean"] == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)


def test_without_references_nothing_is_claimed_of_them():
    found = metrics(cast("p", "1", "1"))
    assert not [name for name in found if METRICS[name].needs_references]


def test_an_election_tells_its_classes_and_what_equals_the_reference():
    ballot = cast("p", "1", "1", "2", None)
    update = UpdateStats(**dict.fromkeys(UpdateStats.__dataclass_fields__, 0))
    [event] = election_events(StepOutcome(4, (ballot,), update, 0.0, 0.0), TASK, {"p": "2"})
    assert [(each.answer, each.count, each.correct) for each in event.classes] == [("1", 2, False), ("2", 1, True)]
    assert (event.label_correct, event.truth_share, event.reward_accuracy) == (False, 0.25, 0.25)
    [unknown] = election_events(StepOutcome(4, (ballot,), update, 0.0, 0.0), TASK, {})
    assert (unknown.label_correct, unknown.classes[0].correct) == (None, None)
