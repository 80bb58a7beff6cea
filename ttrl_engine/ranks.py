"""Which share of a run a process computes, and how the shares are put together again.

Every rank holds the whole policy. A problem and all its rollouts stay on one rank; ballots and gradients are then the
same on every rank, so the weights stay the same too. Importing this module does not load torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ttrl_engine.sampler import StopRequested

if TYPE_CHECKING:
    from torch.nn import Parameter

T = TypeVar("T")


class Ranks:
    """A run in one process: its share is everything. `process_group.JoinedRanks` is a run in several.

    Whatever puts shares together must be called by all ranks at the same point of the run.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def first(self) -> bool:
        """Whether this is the rank that emits events and writes files."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in order of the ranks. Raises PeerLostError where one has ended."""
        return [value]

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Replace each gradient by its sum over the ranks. Raises PeerLostError where one has ended."""

    def close(self) -> None:
        """Leave the others."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all have to do: every `size`-th."""
        return items[self.rank :: self.size]

    def merged(self, mine: Sequence[T]) -> list[T]:
        """What the ranks made of their shares, in the order of the whole."""
        shares = self.gather(mine)
        return [shares[i % self.size][i // self.size] for i in range(sum(len(share) for share in shares))]

    def even_share(self, items: Sequence[T], weight: Callable[[T], int]) -> Sequence[T]:
        """This rank's part where items weigh differently: neighbours stay together, and each part weighs about as
        much as any other."""
        if self.size == 1:
            return items
        total = sum(weight(item) for item in items)
        mine, before = [], 0
        for item in items:
            middle = before + weight(item) / 2
            if min(self.size - 1, int(middle * self.size / total)) == self.rank:
                mine.append(item)
            before += weight(item)
        return mine

    def from_first(self, value: T) -> T:
        """The value of the first rank."""
        return self.gather(value)[0]

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        return any(self.gather(flag))

    def unless_stopped(self, work: Callable[[], T]) -> T:
        """Do this rank's share of some work. Where any rank was asked to stop, all of them raise StopRequested."""
        done: list[T] = []
        try:
            done.append(work())
        except StopRequested:
            if self.size == 1:
                raise
        if self.any(not done):
            raise StopRequested
        return done[0]


ALONE = Ranks()
