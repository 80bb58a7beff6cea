"""Ranks that torchrun has started: what they exchange, by gloo between CPUs and by NCCL between GPUs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from ttrl_engine.config import HardwareConfig
from ttrl_engine.errors import PeerLostError, RunError
from ttrl_engine.launch import is_rank, take_gpu
from ttrl_engine.ranks import Ranks

T = TypeVar("T")

# Most of its names are made in C, where no type checker sees them.
dist: Any = distributed

# A rank that has ended is noticed at once, by its closed connection; a slow one may take long, so the limit is wide.
PATIENCE = timedelta(hours=1)
BUCKET_BYTES = 64 << 20

# What torchrun tells a process. Libraries read it too (vLLM would join our group), so it is taken away once read.
_TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK")


class JoinedRanks(Ranks):
    """One of several processes. Its groups are its own and not the default group of torch.distributed, which stays
    free for an inference engine in the same process."""

    def __init__(self, store: Any, rank: int, size: int, num_gpus: int) -> None:
        """`num_gpus` is how many this process sees. Where that is not one each, all ranks raise RunError."""
        super().__init__(rank, size)
        self._store = store
        self._words = dist.ProcessGroupGloo(dist.PrefixStore("words", store), rank, size, PATIENCE)
        self._gradients: Any = self._words
        if have_gpus(self.gather(num_gpus)):
            options = dist.ProcessGroupNCCL.Options()
            self._gradients = dist.ProcessGroupNCCL(dist.PrefixStore("gradients", store), rank, size, options)

    def gather(self, value: T) -> list[T]:
        """See `Ranks.gather`. The value is pickled; it goes to processes of this run only."""
        data = torch.frombuffer(bytearray(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        self._all_gather(lengths, torch.tensor([len(data)]))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(data)] = data
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        self._all_gather(found, padded)
        return [
            pickle.loads(part[: int(length)].numpy().tobytes())  # noqa: S301  # written by a process of this run
            for part, length in zip(found, lengths, strict=True)
        ]

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """See `Ranks.sum_gradients`. A rank without rows adds zeros; what has a gradient nowhere keeps none."""
        # By gloo, before anything is handed to NCCL: a rank that has ended is noticed here, and there only by a limit.
        has = self.gather([parameter.grad is not None for parameter in parameters])
        touched = [p for p, *flags in zip(parameters, *has, strict=True) if any(flags)]
        for bucket in _buckets(touched):
            flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in bucket])
            try:
                self._gradients.allreduce([flat]).wait()
            except RuntimeError as failure:
                raise PeerLostError(self.rank) from failure
            parts = torch.split(flat, [parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def close(self) -> None:
        """See `Ranks.close`."""
        self._gradients.shutdown()

    def _all_gather(self, found: list[Tensor], mine: Tensor) -> None:
        try:
            self._words.allgather([found], [mine]).wait()
        except RuntimeError as failure:
            raise PeerLostError(self.rank) from failure


def join(hardware: HardwareConfig) -> Ranks:
    """The ranks of this run: those that torchrun has started, or this process alone. Call it before CUDA is used.

    Raises RunError where there are fewer GPUs than processes.
    """
    if not is_rank():
        return Ranks()
    take_gpu(hardware)
    # The driver's own count: another one would follow CUDA_VISIBLE_DEVICES even where that was set too late.
    num_gpus = torch._C._cuda_getDeviceCount() if hardware.device != "cpu" and torch.cuda.is_available() else 0
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    for name in _TOLD:
        os.environ.pop(name, None)
    return JoinedRanks(store, rank, size, num_gpus)


def have_gpus(seen: Sequence[int]) -> bool:
    """Whether the ranks compute on GPUs, from how many of them each one sees. Raises RunError where some see none, or
    more than their own."""
    if max(seen) > 1:
        raise RunError(
            f"A process of this run sees {max(seen)} GPUs, where each must see its own only: something has used CUDA "
            "before the run began. Start it with `python -m ttrl_engine`."
        )
    if 0 < sum(seen) < len(seen):
        raise RunError(
            f"The run asks for {len(seen)} processes with a GPU each, but only {sum(seen)} can be seen. Lower "
            "hardware.gpus or choose the device `cpu`."
        )
    return max(seen) == 1


def _gradient(parameter: Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[Parameter]) -> Iterator[list[Parameter]]:
    """Neighbours whose gradients are added up in one go: few messages, and little memory beside the gradients."""
    bucket: list[Parameter] = []
    size = 0
    for parameter in parameters:
        num_bytes = parameter.numel() * parameter.element_size()
        if bucket and size + num_bytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += num_bytes
    if bucket:
        yield bucket
