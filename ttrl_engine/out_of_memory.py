"""Telling a lack of memory from other failures."""

from __future__ import annotations

import torch

# What may be one, to be caught and looked at.
MAYBE = (torch.OutOfMemoryError, MemoryError, RuntimeError)
# Who has no class of its own for it says so in words: the allocators of a CPU, the libraries and the driver of a GPU.
WORDS = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "could not create a memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether memory ran out, on either kind of device."""
    if isinstance(failure, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(failure) for words in WORDS)
