"""How many processors this process may use, which is often less than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

from auditcore.devices.control_groups import control_groups


def usable_cpus() -> float:
    """Processors that this process may use: by its affinity, and by the quota of its container; at least a small part.

    PyTorch starts a thread for every processor of the host. In a container with a quota of two they would wait for each
    other on a host with 64.
    """
    found = [float(_affinity())]
    for folder, version in control_groups("cpu"):
        quota = _quota(folder, version)
        if quota is not None:
            found.append(quota)
    return min(found)


def threads_of_worker(workers: int) -> int:
    """Threads for each of some workers that share the processors of this process; at least 1.

    A part of a processor counts as a whole one from a half on: a quota of 1.5 is used up by two threads.
    """
    return max(1, int(usable_cpus() / workers + 0.5))


def _affinity() -> int:
    """Processors that the scheduler may give to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(folder: Path, version: int) -> float | None:
    """Processors that a control group may use; None if there is no limit."""
    try:
        if version == 2:  # noqa: PLR2004 - the second version
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    return float(quota) / float(period) if quota.isdigit() and float(period) > 0 else None
