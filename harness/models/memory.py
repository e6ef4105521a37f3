"""Telling "out of memory" from other errors."""

from __future__ import annotations

import torch

_CPU_MARKS = ("can't allocate memory", "not enough memory", "could not create a memory object", "out of memory")
"""What torch's CPU allocator (posix, Windows), oneDNN and the other backends say in a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the computation failed for lack of memory on its device, so that a smaller one may succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in _CPU_MARKS)
