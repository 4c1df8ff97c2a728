"""Whether an error says that there is no memory left."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator said that there is no memory: of an accelerator, of torch on the CPU, or Python's."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
