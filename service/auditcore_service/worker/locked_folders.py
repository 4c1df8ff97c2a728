"""Private folders of processes: each is locked while its process lives, and those of the dead are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, final

MODE: Final = 0o700

Kind = Literal["worker", "compute"]
"""Whose folders they are."""

_PREFIX: Final = "process-"


@final
class LockedFolder:
    """A new private folder, removed by `remove`, or by the next process of this user if this one is killed.

    Attributes:
        path: Where it is.
    """

    def __init__(self, base: Path) -> None:
        """Make the folder, and remove those of processes that are gone.

        Args:
            base: Folder for the folders of all processes; made if it is missing.

        Raises:
            PermissionError: `base` belongs to another user.
        """
        base.mkdir(mode=MODE, exist_ok=True)
        if base.is_symlink() or base.stat().st_uid != os.getuid():
            msg = f"{base} belongs to another user; remove it, or set TMPDIR to another folder"
            raise PermissionError(msg)
        with _locked(base):
            _remove_dead(base)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            # held for as long as this process lives; systemd-tmpfiles leaves locked folders alone as well
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def base_of(kind: Kind) -> Path:
    """The folder for folders of one kind, of this user, where temporary files go."""
    return Path(tempfile.gettempdir()) / f"auditcore-{kind}-folders-{os.getuid()}"


def remove_folders_of_the_dead(*kinds: Kind) -> None:
    """Remove the folders of these kinds whose processes are gone; called where workers end."""
    for base in map(base_of, kinds):
        if base.is_dir():
            with _locked(base):
                _remove_dead(base)


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Let one process at a time make or remove folders, so that none is removed before it is locked."""
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_dead(base: Path) -> None:
    """Remove the folders that no living process holds."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
