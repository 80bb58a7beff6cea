"""What every sampler takes and gives back. Importing this module does not load torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]


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
    the same rollouts whatever else is sampled beside it."""

    prompt_ids: tuple[int, ...]
    num_rollouts: int
    stream: int


@dataclass(frozen=True)
class Rollout:
    """One completion: its tokens (the end token included) and, per token, the log-probability under the distribution
    that it was drawn from (after temperature and top-p)."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]


class Sampler(Protocol):
    """Draws rollouts from the current policy."""

    name: str

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
    ) -> list[list[Rollout]]:
        """Rollouts per request, in order. Raises StopRequested as soon as `should_stop()` is true."""
        ...

    def sync(self) -> None:
        """Serve the policy's newest weights from now on."""
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


def stream_of(seed: int, *parts: object) -> int:
    """A 63-bit stream seed from (run seed, purpose, step, problem …): equal on every rank and after every resume."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
