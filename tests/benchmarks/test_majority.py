"""TRL's side must be given the rewards that our engine gives, or the two sides do not do the same work."""

from __future__ import annotations

import random

from benchmarks.majority import majority_rewards, read_answer
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.vote import elect, rewards


def test_rewards_equal_those_of_our_vote():
    task, problem, rng = get_task("number"), Problem("1", "2+2="), random.Random(0)
    for _ in range(300):
        texts = [
            rng.choice(["abc", "x\\boxed{1}", "\\boxed{7}y", "\\boxed{1}\\boxed{3}", "\\boxed{"]) for _ in range(8)
        ]
        election = elect([task.extract(text, problem) for text in texts], task, problem, tie="first_sampled")
        assert majority_rewards([read_answer(text) for text in texts], 8, 8) == rewards(election)


def test_untrained_answers_vote_and_are_unscored():
    answers = ["1", "2", "2", "2", None, "5", "5", "6"]
    assert majority_rewards(answers, 4, 2) == [0.0, 1.0, None, None, 0.0, 1.0, None, None]


def test_a_group_without_answers_earns_nothing():
    assert majority_rewards([None, None], 2, 2) == [0.0, 0.0]
