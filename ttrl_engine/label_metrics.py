"""How good the pseudo-labels were: the only module that holds an election against a reference answer.

Nothing that computes a reward imports it. Definitions follow the official code (reward accuracy per rollout).
"""

from __future__ import annotations

from dataclasses import dataclass

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Task
from ttrl_engine.vote import Election, rewards


@dataclass(frozen=True)
class LabelQuality:
    """One election against the reference answer of its problem.

    label_correct: the pseudo-label is equivalent to the reference; False where the election abstained, since then
    there is no label that is. reward_accuracy: share of the N rollouts whose reward is what the reference would have
    given. truth_share: share of the N rollouts that are right. any_correct: at least one is. classes_correct: per
    answer class of the election, in its order.
    """

    label_correct: bool
    reward_accuracy: float
    truth_share: float
    any_correct: bool
    classes_correct: tuple[bool, ...]


def measure_label(election: Election, reference: str, task: Task, problem: Problem) -> LabelQuality | None:
    """Measure an election; None for one without rollouts.

    Identity (p = consensus, q = truth_share): with a pseudo-label, reward_accuracy is 1 where it is right and
    1 - p - q where it is wrong; without one it is 1 - q.
    """
    if election.num_rollouts == 0:
        return None
    classes_correct = tuple(task.equivalent(each.answer, reference, problem) for each in election.classes)
    truth = [0.0] * election.num_rollouts
    for correct, answer_class in zip(classes_correct, election.classes, strict=True):
        for index in answer_class.members:
            truth[index] = float(correct)
    given = rewards(election)
    return LabelQuality(
        label_correct=election.winner is not None and classes_correct[election.winner],
        reward_accuracy=sum(r == t for r, t in zip(given, truth, strict=True)) / election.num_rollouts,
        truth_share=sum(truth) / election.num_rollouts,
        any_correct=any(classes_correct),
        classes_correct=classes_correct,
    )
