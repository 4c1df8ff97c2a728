"""Transfers between the host and an accelerator that do not wait for each other.

An ordinary copy makes the host wait until the device has finished all queued work. A check runs thousands of passes;
the device stays busy only if the host never waits between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a CUDA device the current one inside the block, for our own kernels and CUDA graphs."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device; the copy is queued behind the device's earlier work.

    Args:
        values: On any device. Values that are already on `device` are returned unchanged.
        device: Target device.
    """
    return values.to(device, non_blocking=device.type == "cuda" and values.device.type == "cpu")


def numbers_on(
    values: Sequence[int] | Sequence[float], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Return a few numbers of the host as a tensor (n,) on a device."""
    return to_device(torch.tensor(values, dtype=dtype), device)


def empty_for(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return an uninitialized float32 tensor on the host that can be copied to `device` without an intermediate copy.

    On CUDA its memory is pinned; torch keeps it until the copy is done and then reuses it.
    """
    return torch.empty(tuple(shape), pin_memory=device.type == "cuda")
