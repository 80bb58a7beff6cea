"""What every sampler takes and gives back. Importing this module does not load torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]
Finish: TypeAlias = Literal["stop", "length", "dropped"]


class StopRequested(Exception):  # noqa: N818  # a request that was met, not an error
    """Somebody asked the run to stop; whatever was half done is dropped, nothing finished is lost."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn. Always explicit: a model's own generation settings never leak in."""

    temperature: float
    top_p: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class SampleRequest:
    """`num_rollouts` completions of one prompt. `stream` seeds a random stream of its own, so the same request gives
    the same rollouts whatever else is sampled beside it. The first `num_required` rollouts (all where None) always
    finish; the watcher may call off the others."""

    prompt_ids: tuple[int, ...]
    num_rollouts: int
    stream: int
    num_required: int | None = None

    def required(self, index: int) -> bool:
        """Whether rollout `index` must finish."""
        return self.num_required is None or index < self.num_required


@dataclass(frozen=True)
class Rollout:
    """One completion: its tokens (the end token included) and, per token, the log-probability under the distribution
    that it was drawn from (after temperature and top-p). A "dropped" one was called off by the watcher; its tokens are
    those drawn until then, possibly none."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish


DROPPED: Final = Rollout((), (), "dropped")
"""One that was called off and whose tokens, if it had any, are not kept."""


class Watcher(Protocol):
    """Sees rollouts as they end, so that they can be read while others still grow."""

    def finished(self, request: int, index: int, rollout: Rollout) -> None:
        """Rollout `index` of request number `request` has ended; dropped ones are reported too."""
        ...

    def settled(self) -> Collection[int]:
        """Numbers of the requests whose rollouts beyond `num_required` nobody needs any more. Asked once between
        token steps; each request need be named only once."""
        ...


class NoWatcher:
    """Waits for the end and needs every rollout."""

    def finished(self, request: int, index: int, rollout: Rollout) -> None:  # the protocol's
        """Look away."""

    def settled(self) -> Collection[int]:
        """Never any."""
        return ()


NO_WATCHER: Final = NoWatcher()


class Sampler(Protocol):
    """Draws rollouts from the current policy. `notes` says what the user should know about how it does so."""

    name: str
    notes: list[str]

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        watcher: Watcher = NO_WATCHER,
    ) -> list[list[Rollout]]:
        """Rollouts per request, in order. Progress counts rollouts that ended. Raises StopRequested as soon as
        `should_stop()` is true; it is asked before every token."""
        ...

    def sync(self) -> None:
        """Serve the policy's newest weights from now on."""
        ...

    def give_back(self) -> bool:
        """Let go of what is held between calls, now and after every call from now on, because the update ran out of
        memory. Whether there was anything."""
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


def stream_of(seed: int, *parts: object) -> int:
    """A 63-bit stream seed from (run seed, purpose, step, problem …): equal on every rank and after every resume."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
