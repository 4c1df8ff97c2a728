"""Peak memory of one piece of work, and how it grows with the number of images."""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

KIB = 1024
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Memory while a piece of work ran.

    Attributes:
        highest_bytes: Most that the device's allocator gave out, or that this process held on the CPU.
        before_bytes: The same when the work began: interpreter, libraries, models.
    """

    highest_bytes: int = 0
    before_bytes: int = 0


@contextmanager
def peak_of(device: torch.device) -> Iterator[Peak]:
    """Peak memory of a block.

    The resident peak of a process never falls by itself. Linux resets it on request (`man 5 proc`: clear_refs), and
    what earlier rows have freed is returned to the system first; elsewhere it is the peak since the process began.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak.before_bytes = torch.cuda.memory_allocated(device)
    else:
        _return_freed_memory()
        _reset_peak()
        peak.before_bytes = process_peak_bytes()
    yield peak
    peak.highest_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_peak_bytes()


def growth(model: str, counts: tuple[int, int], device: str) -> list[dict[str, int]]:
    """Peak memory of one small audit of few images and of many, each in a process of its own."""
    found = []
    for images in counts:
        command = [sys.executable, "-m", "benchmarks.memory_of_images", model, str(images), device]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found.append(json.loads(done.stdout))
    return found


def process_peak_bytes() -> int:
    """Peak of this process since it began.

    From the process's own status where there is one: `ru_maxrss` of a child begins with what its parent held when it
    was started, so that small children of a large benchmark all seem as large.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * KIB
    unit = 1 if sys.platform == "darwin" else KIB  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> None:
    if RESET.exists():
        RESET.write_text("5")


def _return_freed_memory() -> None:
    if sys.platform == "linux":
        # glibc keeps freed blocks; other C libraries have no such call
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
