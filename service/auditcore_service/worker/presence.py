"""A worker without Celery shows other processes of its host that it works."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import final

FORGET_S = 60.0
"""Age at which the file of a worker that was killed is removed."""


@final
class Presence:
    """One file for each worker of this user on this host; its age is how long the worker has been silent."""

    def __init__(self) -> None:
        folder = _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            msg = f"{folder} belongs to another user; remove it, or set TMPDIR to another folder"
            raise PermissionError(msg)
        _forget_dead(folder)
        self._file = folder / str(os.getpid())

    def show(self) -> None:
        """Say that this worker works; to be called every second."""
        self._file.touch(mode=0o600)

    def end(self) -> None:
        """Say that this worker has ended."""
        self._file.unlink(missing_ok=True)


def is_worker_present(*, silent_s: float) -> bool:
    """Whether any worker of this user on this host has shown itself within the last `silent_s` seconds."""
    return any(age <= silent_s for age in _ages(_folder()).values())


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"auditcore-workers-{os.getuid()}"


def _ages(folder: Path) -> dict[Path, float]:
    """File -> seconds since its worker has shown itself."""
    ages: dict[Path, float] = {}
    now = time.time()
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):  # its worker has just ended
            ages[file] = now - file.stat().st_mtime
    return ages


def _forget_dead(folder: Path) -> None:
    for file, age in _ages(folder).items():
        if age > FORGET_S:
            file.unlink(missing_ok=True)
