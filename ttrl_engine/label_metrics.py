"""How good the pseudo-labels were: the only module that holds an election against a reference answer.

Nothing that computes a reward imports it. Definitions follow the official code: with m the pseudo-label, g the
reference and V the equivalence, r_i = V(a_i, m) and t_i = V(a_i, g), whatever the run pays for agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Task
from ttrl_engine.vote import Election, rewards


@dataclass(frozen=True)
class LabelQuality:
    """One election against the reference answer of its problem.

    label_correct: V(m, g); False where the election abstained, since then there is no label that is right.
    classes_correct: per answer class of the election, in its order. right: t_i per rollout, False for one without an
    answer. agrees: r_i = t_i per rollout, where r_i is 0 for all if the election abstained.
    """

    label_correct: bool
    classes_correct: tuple[bool, ...]
    right: tuple[bool, ...]
    agrees: tuple[bool, ...]

    @property
    def reward_accuracy(self) -> float:
        """Mean of 1[r_i = t_i]."""
        return sum(self.agrees) / len(self.agrees)

    @property
    def truth_share(self) -> float:
        """Mean of t_i: pass@1 of these rollouts."""
        return sum(self.right) / len(self.right)

    @property
    def any_correct(self) -> bool:
        """At least one t_i is 1: pass@n."""
        return any(self.right)

    def among(self, indexes: Sequence[int]) -> LabelQuality:
        """The same election, measured on some of its rollouts only, such as those that are trained on."""
        right, agrees = tuple(self.right[i] for i in indexes), tuple(self.agrees[i] for i in indexes)
        return replace(self, right=right, agrees=agrees)


def measure_label(election: Election, reference: str, task: Task, problem: Problem) -> LabelQuality | None:
    """Measure an election; None for one without rollouts.

    Identity (p = consensus, q = truth_share): with a pseudo-label, reward_accuracy is 1 where it is right and
    1 - p - q where it is wrong; without one it is 1 - q.
    """
    if election.num_rollouts == 0:
        return None
    classes_correct = tuple(task.equivalent(each.answer, reference, problem) for each in election.classes)
    right = [False] * election.num_rollouts
    for correct, answer_class in zip(classes_correct, election.classes, strict=True):
        for index in answer_class.members:
            right[index] = correct
    return LabelQuality(
        label_correct=election.winner is not None and classes_correct[election.winner],
        classes_correct=classes_correct,
        right=tuple(right),
        agrees=tuple((reward == 1.0) == true for reward, true in zip(rewards(election), right, strict=True)),
    )
