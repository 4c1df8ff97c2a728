"""The C library's memory allocator, which holds activations on the CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of `man 3 mallopt`."""


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next tensors; this applies to the whole process.

    By default, glibc maps every block above 32 MiB and unmaps it when it is freed. The kernel then has to find and
    clear each page of each large activation in every pass: 7000 page faults per image in batches of 8 of the demo
    model, a quarter of the time of a gradient. Kept memory stays with the process until `give_back_freed_memory`.

    Returns:
        Whether the C library has this setting; only glibc does.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> bool:
    """Return every unused page to the kernel; the next passes allocate them again, once, in about 0.3 s per GB.

    Without this, the memory of a process that audits many models would become fragmented.

    Returns:
        Whether memory was returned; always False where the C library cannot.
    """
    if sys.platform != "linux":
        return False
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))
