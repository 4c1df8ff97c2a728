"""Whether an error says that there is no memory left, and what a user is told."""

from __future__ import annotations

import torch

EXHAUSTED = (
    "memory ran out for a single image; use a smaller input size, a device with more memory, or a model that computes "
    "its input tile by tile"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator said that there is no memory: of an accelerator, of torch on the CPU, or Python's."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
