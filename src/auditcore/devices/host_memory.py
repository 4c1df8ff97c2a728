"""Memory of the host: how much this process may take, and a limit that makes too much an error.

Linux promises more memory than there is. A process that takes too much gets no error: the kernel kills it. With a
limit on its data segment, the allocation fails instead. The engine can then pass fewer images at once, or say what is
too large.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from auditcore.devices.control_groups import control_groups

LIMIT_SHARE = 0.9
"""Share of the memory of a machine or container that its workers may take together; the rest is for other processes."""

_MEMINFO, _STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
_KIB = 1024


def available_bytes() -> int:
    """Memory that this process can still take: of the machine, its container, and the limit of `limit_memory`."""
    known = _fields(_MEMINFO)
    found = [known["MemAvailable"]] if "MemAvailable" in known else [_pages("SC_AVPHYS_PAGES")]
    used = _fields(_STATUS)
    limits = _container_limits()
    if limits:
        found.append(max(0, min(limits) - used.get("VmRSS", 0)))
    limit = _process_limit()
    if limit is not None:
        found.append(max(0, limit - used.get("VmData", 0)))
    return min(found)


def total_bytes() -> int:
    """Memory of the machine, or of the container if it has less."""
    return min([_pages("SC_PHYS_PAGES"), *_container_limits()])


def limit_memory(limit_bytes: int) -> bool:
    """Make allocations of this process fail once its data takes more than `limit_bytes`, instead of having it killed.

    Counted is memory that is reserved, such as stacks of threads, so that a process holds somewhat less when it fails.

    Returns:
        Whether the system has such a limit; only Linux counts all allocations.
    """
    if sys.platform != "linux":
        return False
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = limit_bytes if most == resource.RLIM_INFINITY else min(limit_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))
    return True


def memory_kills() -> int | None:
    """How many processes of this container the kernel has killed for memory; None where it does not count them."""
    found = [
        int(words[1])
        for folder, _ in control_groups("memory")
        for name in ("memory.events", "memory.oom_control")
        if (file := folder / name).exists()
        for line in file.read_text().splitlines()
        if (words := line.split())[0] == "oom_kill"
    ]
    return found[0] if found else None


def _process_limit() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return limit if sys.platform == "linux" and limit != resource.RLIM_INFINITY else None


def _container_limits() -> list[int]:
    """Limits of the control groups of this process, of both versions; a container sees its own as the root."""
    found = []
    for folder, version in control_groups("memory"):
        file = folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")  # noqa: PLR2004 - the second version
        if file.exists():
            said = file.read_text().strip()
            found += [int(said)] if said.isdigit() else []
    return found


def _pages(name: str) -> int:
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _fields(file: Path) -> dict[str, int]:
    """Fields of a file of Linux that are given in kB, in bytes; none on other systems."""
    if not file.exists():
        return {}
    found = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * _KIB for words in found if words[2:] == ["kB"]}
