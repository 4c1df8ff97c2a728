"""A disk of some megabytes that a scenario may fill and make read-only. Needs root."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import final

_PIECE = b"\0" * 2**16


@final
class SmallDisk:
    """A tmpfs; `remove` has to be called when nothing uses it any more."""

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._filler = path / "filler"
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "none", str(path))

    def fill(self) -> None:
        """Leave no byte."""
        try:
            with self._filler.open("ab", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError:
            return

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)

    def make_read_only(self) -> None:
        """Refuse writes; possible only while no file is open for writing."""
        _run("mount", "-o", "remount,ro", str(self.path))

    def make_writable(self) -> None:
        """Undo `make_read_only`."""
        _run("mount", "-o", "remount,rw", str(self.path))

    def remove(self) -> None:
        """Unmount it, with everything on it."""
        _run("umount", "--lazy", str(self.path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
