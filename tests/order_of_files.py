"""Which files of tests run first, and which run in one process, so that two processes end at about the same time."""

from __future__ import annotations

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

TOGETHER = "tests/sense"
"""Its files read the same audits. In two processes, one would wait while the other computes them."""


class SlowFilesFirst(LoadFileScheduling):  # type: ignore[misc]  # xdist's schedulers have no types
    """Hands out whole files in the order of the collection, and the files of `TOGETHER` as one."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(f"{TOGETHER}/") else nodeid.split("::", 1)[0]


def slow_files_first(items: list[pytest.Item]) -> None:
    """Bring files with slow tests to the front; the rest keeps its order."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
