"""The folder of a compute process: where it may write, and what its worker gives it to read."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

MODE = 0o700


@final
class ComputeFolder:
    """A new private folder, removed by `remove`, or by the next worker of this user if this one is killed.

    What the worker writes is apart from what the compute process writes: a link that code of a model makes never leads
    the worker elsewhere.

    Attributes:
        own: Working folder of the compute process, also for its temporary files.
        files: Files that the worker has fetched.
        models: Folders of models of registries that the worker has fetched.
    """

    def __init__(self, inside: Path | None = None) -> None:
        """Make the folder, and remove those of workers that are gone.

        Args:
            inside: Folder for the folders of all workers; below the one for temporary files if None.

        Raises:
            PermissionError: That folder belongs to another user.
        """
        base = _base() if inside is None else inside
        base.mkdir(mode=MODE, exist_ok=True)
        if base.is_symlink() or base.stat().st_uid != os.getuid():
            msg = f"{base} belongs to another user; remove it, or set TMPDIR to another folder"
            raise PermissionError(msg)
        with _locked(base):
            _remove_dead(base)
            self._root = Path(tempfile.mkdtemp(prefix="process-", dir=base))
            self._handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            # held for as long as this process lives; systemd-tmpfiles leaves locked folders alone as well
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        self.own, self.files, self.models = (self._root / name for name in ("own", "files", "models"))
        for folder in (self.own, self.files, self.models):
            folder.mkdir(mode=MODE)

    def remove(self) -> None:
        """Remove everything; the compute process has ended."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def remove_folders_of_the_dead() -> None:
    """Remove the folders of workers of this user that are gone; called where workers end."""
    base = _base()
    if base.is_dir():
        with _locked(base):
            _remove_dead(base)


def _base() -> Path:
    return Path(tempfile.gettempdir()) / f"auditcore-compute-{os.getuid()}"


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Let one worker at a time make or remove folders, so that none is removed before it is locked."""
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_dead(base: Path) -> None:
    """Remove the folders that no living worker holds."""
    for folder in base.glob("process-*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
