"""Values on their way between the host and an accelerator, without either waiting for the other.

An ordinary copy makes the host wait until the device has done all that was asked of it. A check asks for thousands of
passes; the device stays busy only if the host never waits between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def current(device: torch.device) -> AbstractContextManager[object]:
    """Inside the block a CUDA device is the one that kernels and recordings of our own run on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; the copy is queued behind what the device does already.

    Args:
        values: On any device. Values that already are where they are wanted are returned as they are.
        device: Where they are needed.
    """
    return values.to(device, non_blocking=device.type == "cuda" and values.device.type == "cpu")


def numbers_on(
    values: Sequence[int] | Sequence[float], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """A few numbers of the host as a tensor (n,) on a device."""
    return to_device(torch.tensor(values, dtype=dtype), device)


def empty_for(shape: Sequence[int], device: torch.device) -> Tensor:
    """An empty float32 tensor on the host, from which copies to `device` need no intermediate one.

    On CUDA its memory is pinned; torch keeps it until the copy is done and uses it again.
    """
    return torch.empty(tuple(shape), pin_memory=device.type == "cuda")
