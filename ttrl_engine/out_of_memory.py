"""Telling a lack of memory from other failures."""

from __future__ import annotations

import torch

# What may be one, to be caught and looked at. On a CPU the allocators say so in words only.
MAYBE = (torch.OutOfMemoryError, MemoryError, RuntimeError)


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether memory ran out, on either kind of device."""
    if isinstance(failure, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(failure) for words in ("DefaultCPUAllocator", "bad_alloc", "could not create a memory"))
