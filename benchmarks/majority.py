"""The majority vote as TRL's user would write it: a reward function's few lines, without our engine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def read_answer(text: str) -> str | None:
    """The last boxed whole number."""
    found = BOXED.findall(text)
    return found[-1] if found else None


def majority_rewards(answers: Sequence[str | None], num_votes: int, num_trained: int) -> list[float | None]:
    """Per group of `num_votes` answers: 1 for the most frequent one (on a tie the one sampled first), else 0.

    None for the answers after the first `num_trained` of a group: they vote, and TRL gives them no advantage.
    """
    rewards: list[float | None] = []
    for start in range(0, len(answers), num_votes):
        group = answers[start : start + num_votes]
        counts = Counter(answer for answer in group if answer is not None)
        label = counts.most_common(1)[0][0] if counts else None
        rewards += [float(label is not None and answer == label) for answer in group[:num_trained]]
        rewards += [None] * (len(group) - num_trained)
    return rewards
