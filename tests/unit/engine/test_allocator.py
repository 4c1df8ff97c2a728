"""Memory of freed tensors that stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auditcore.engine.allocator import keep_freed_memory

FAULTS = """
import resource, sys, torch
from auditcore.engine.allocator import keep_freed_memory
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


def faults(mode: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, mode], check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("leave") > 100_000
    assert faults("keep") < 1000
