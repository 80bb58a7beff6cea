"""Which K of the N rollouts of a problem enter the update; all N have voted."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ttrl_engine.vote import Election

Selection: TypeAlias = Literal["first", "balanced"]


def select(election: Election, num_trained: int, selection: Selection) -> tuple[int, ...]:
    """Indexes of the trained rollouts, in rising order: K of them, or all where there are fewer.

    `first` takes the first K as they were sampled (vote-then-sample, TTRL, arXiv 2504.16084). `balanced` (DDRL, arXiv
    2604.21327) takes min(winners, K // 2) of the winning class, and for the rest dissenters, those of the rarest class
    first; so answers of middling frequency, which may be right after all, are left out. Rollouts without an answer
    count as one class of their own. Where there are too few dissenters, more winners fill the places. Within a class
    the first sampled are taken. An election without a winner has no sides to balance and trains on the first K.
    Raises ValueError for an unknown rule.
    """
    if selection not in ("first", "balanced"):
        raise ValueError(f"There is no selection {selection!r}.")
    winning = election.winning_class
    if selection == "first" or winning is None:
        return tuple(range(min(num_trained, election.num_rollouts)))
    num_winners = min(winning.count, num_trained // 2)
    groups = [each.members for each in election.classes if each is not winning]
    groups.append(tuple(index for index, _ in election.unparsed))
    dissenters = [index for group in sorted(groups, key=lambda group: (len(group), group)) for index in group]
    order = [*winning.members[:num_winners], *dissenters[: num_trained - num_winners], *winning.members[num_winners:]]
    return tuple(sorted(order[:num_trained]))
