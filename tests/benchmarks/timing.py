"""Wall time with the device's queue drained on both sides, and where the benchmark stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def drain(device: torch.device) -> None:
    """Wait until the device has done everything that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    drain(device)
    started = time.perf_counter()
    work()
    drain(device)
    return time.perf_counter() - started


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The precision's context: none for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
