"""Voting while others still sample, and stopping the votes that can no longer change anything.

The rollouts that are trained on always finish. One that only votes is called off once the label, and whether there is
one at all, would be the same whatever every outstanding rollout said; so labels and rewards are exactly those of the
full vote, and only the counts shown are lower bounds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from ttrl_engine.sampler import Rollout, SampleRequest

Ballot = TypeVar("Ballot")
# Answers are read while so many tokens are drawn. A fixed number, not "as soon as they are read": which votes are
# called off must not depend on how fast they were.
LAG = 2


def decided(
    first: int, second: int, undecided: int, num_votes: int, min_consensus: float = 0.0, min_margin: float = 0.0
) -> bool:
    """Whether `undecided` more votes, whatever they say, leave the outcome as it is: the leading class with `first`
    votes elected, or none. `second` counts the runner-up; thresholds are shares of all `num_votes`.

    A tie can always be broken or made by one more vote, so the leader must be strictly out of reach.
    """
    if undecided == 0:
        return True
    # The most that any class could reach, and the widest lead: all outstanding votes for the leader.
    most, widest = first + undecided, first + undecided - second
    if most / num_votes < min_consensus or widest / num_votes < min_margin:
        return True
    # The least that the leader keeps: all outstanding votes for the runner-up.
    narrowest = first - second - undecided
    return narrowest > 0 and first / num_votes >= min_consensus and narrowest / num_votes >= min_margin


class Tally:
    """The votes of one problem as they come in."""

    def __init__(self, num_votes: int, min_consensus: float, min_margin: float) -> None:
        self._num_votes = num_votes
        self._thresholds = min_consensus, min_margin
        self._counts: Counter[str] = Counter()
        self._undecided = num_votes

    def add(self, keys: Sequence[str | None]) -> bool:
        """Count votes by class key, None for a rollout without an answer; whether the outcome is decided now."""
        self._undecided -= len(keys)
        self._counts.update(key for key in keys if key is not None)
        leading = [count for _, count in self._counts.most_common(2)]
        first, second = [*leading, 0, 0][:2]
        return decided(first, second, self._undecided, self._num_votes, *self._thresholds)


class Poll(Generic[Ballot]):
    """A `Watcher` that counts each problem's vote, in one thread, as soon as its last rollout has ended.

    `count` holds the election of request i over all its rollouts. `keys` reads rollouts of request i into class keys;
    where it is given, `tallies` (one per request) say when the votes beyond `num_required` may stop.
    """

    def __init__(
        self,
        requests: Sequence[SampleRequest],
        count: Callable[[int, list[Rollout]], Ballot],
        keys: Callable[[int, list[Rollout]], list[str | None]] | None = None,
        tallies: Sequence[Tally] = (),
    ) -> None:
        self._count, self._keys, self._tallies = count, keys, tallies
        self._rollouts: list[list[Rollout | None]] = [[None] * request.num_rollouts for request in requests]
        self._missing = [request.num_rollouts for request in requests]
        self._unread: dict[int, list[Rollout]] = {}
        self._reading: deque[Future[list[int]]] = deque()
        self._ballots: dict[int, Future[Ballot]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vote")

    def __enter__(self) -> Poll[Ballot]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def finished(self, request: int, index: int, rollout: Rollout) -> None:
        """See `Watcher.finished`."""
        self._rollouts[request][index] = rollout
        self._missing[request] -= 1
        if self._keys is not None and rollout.finish != "dropped":
            self._unread.setdefault(request, []).append(rollout)
        if self._missing[request] == 0:
            self._unread.pop(request, None)
            rollouts = [each for each in self._rollouts[request] if each is not None]
            self._ballots[request] = self._thread.submit(self._count, request, rollouts)

    def settled(self) -> Collection[int]:
        """See `Watcher.settled`. Answers handed in `LAG` calls ago are waited for."""
        if self._keys is None:
            return ()
        self._reading.append(self._thread.submit(self._read, self._unread))
        self._unread = {}
        return self._reading.popleft().result() if len(self._reading) > LAG else ()

    def ballot(self, request: int) -> Ballot:
        """The vote of a request all of whose rollouts have ended; waits for it, and raises what counting it raised."""
        return self._ballots[request].result()

    def _read(self, unread: dict[int, list[Rollout]]) -> list[int]:
        assert self._keys is not None
        return [
            request for request, rollouts in unread.items() if self._tallies[request].add(self._keys(request, rollouts))
        ]
