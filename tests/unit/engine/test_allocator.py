"""Memory of freed tensors that stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from auditcore.devices.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(30):
    faults()
print(sum(faults() for _ in range(10)))
"""
"""Page faults of ten equal tensors of 16 384 pages, after the heap has found its size."""


HELD = """
import torch
from auditcore.devices.allocator import give_back_freed_memory, keep_freed_memory
def held_mib():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024
keep_freed_memory()
before = held_mib()
tensor = torch.empty(256 * 2**20, dtype=torch.uint8).fill_(1)
del tensor
kept = held_mib()
assert give_back_freed_memory()
print(kept - before, held_mib() - before)
"""
"""MiB that a freed tensor of 256 still holds, before and after they are given back."""


def faults(mode: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, mode], check=True, stdout=subprocess.PIPE).stdout)


# asked of the name, since the call would change this very process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such a setting")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("leave") > 100_000
    assert faults("keep") < 1000


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="reads what Linux says")
def test_kept_memory_can_be_returned() -> None:
    kept, left = subprocess.run([sys.executable, "-c", HELD], check=True, stdout=subprocess.PIPE).stdout.split()
    assert int(kept) > 200
    assert int(left) < 50
