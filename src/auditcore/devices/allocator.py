"""How this process gets memory for activations on the CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of `man 3 mallopt`."""


def keep_freed_memory() -> bool:
    """Have the C library keep the memory of freed tensors for the next ones, for the whole process.

    glibc maps every block above 32 MiB anew and gives it back when it is freed, so that the kernel has to find and
    clear each page of each large activation in every pass: 7000 page faults an image in batches of 8 of the demo model,
    a quarter of the time of a gradient. Kept, the memory stays with the process until `give_back_freed_memory`.

    Returns:
        Whether the C library has such a setting; others than glibc are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> bool:
    """Give the kernel every page that no tensor uses; the next passes take them anew, once, in about 0.3 s a GB.

    Without it a process that audits many models would in time hold the pieces that none of them fits into.

    Returns:
        Whether there was something to give back, where the C library can.
    """
    if sys.platform != "linux":
        return False
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))
