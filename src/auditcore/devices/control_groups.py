"""The control groups of Linux that limit this process, as containers set them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/proc/self/cgroup")
_HIERARCHIES = Path("/sys/fs/cgroup")


def control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of this process's groups and of those around them, from the inside, with their version, 1 or 2.

    A container sees its own group as the root.

    Args:
        controller: Of version 1, such as `memory` or `cpu`; version 2 has all in one folder.
    """
    if not _CGROUP.exists():
        return
    for line in _CGROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, version = _HIERARCHIES, 2
        elif controller in controllers.split(","):
            root, version = _HIERARCHIES / controller, 1
        else:
            continue
        group = root / path.lstrip("/")
        # where a container is not its own root, the path is that of the host and does not exist here
        for folder in (group, *group.parents):
            if root in (folder, *folder.parents):
                yield folder, version
