"""How alike held-out problems are answered, by hand."""

from __future__ import annotations

import math

import pytest

from tests.ttrl_engine.test_vote import hold
from ttrl_engine.variety import LABEL_PROBLEMS, ProblemVote, held_out_metrics


def votes(*labels: str) -> list[ProblemVote]:
    return [ProblemVote(label, 1.0, 1, 0.0) for label in labels]


def test_agreement_and_variety_within_problems_are_means_over_problems():
    found = held_out_metrics([ProblemVote.of(hold("1", "1", "1", "2")), ProblemVote.of(hold(None, None, None, "5"))])
    assert found["held_out_consensus"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found["held_out_num_classes"] == (2 + 1) / 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert found["held_out_answer_entropy"] == pytest.approx(entropy), "the second problem has one answer: no variety"


def test_variety_across_problems_is_1_for_labels_of_their_own_and_0_for_one_label():
    own = votes(*map(str, range(LABEL_PROBLEMS)))
    assert held_out_metrics(own)["held_out_label_variety"] == pytest.approx(1.0)
    assert held_out_metrics(votes(*["7"] * LABEL_PROBLEMS))["held_out_label_variety"] == 0.0
    halves = votes(*["7"] * 8, *["8"] * 8)
    assert held_out_metrics(halves)["held_out_label_variety"] == pytest.approx(math.log(2) / math.log(16))


def test_of_few_labels_no_variety_is_claimed():
    assert "held_out_label_variety" not in held_out_metrics(votes(*map(str, range(LABEL_PROBLEMS - 1))))
    assert held_out_metrics([]) == {}
    silent = held_out_metrics([ProblemVote.of(hold(None, None))])
    assert silent == {"held_out_consensus": 0.0, "held_out_num_classes": 0.0}
