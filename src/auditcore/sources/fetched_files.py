"""Private copies of fetched bytes on disk, named after their digest; a process keeps only a few."""

from __future__ import annotations

import atexit
import functools
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT_FILES = 4
"""Fetched files kept on disk by a process. Weights are read into memory at once, so few are needed again."""


def private_folder() -> Path:
    """A folder that only this process's user can enter, removed when the process ends."""
    return _folder_of(os.getpid())


@functools.cache
def _folder_of(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="auditcore-"))

    def remove() -> None:
        if os.getpid() == process:  # a fork inherits this handler and must not remove its parent's files
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


@contextmanager
def new_file(folder: Path | None = None) -> Iterator[tuple[io.BufferedIOBase, Callable[[str], Path]]]:
    """A new file, and a function that moves it to its content address; the file is removed if anything fails.

    Args:
        folder: Where to make it, among files that are copies as well; the private folder of this process if None.
    """
    folder = private_folder() if folder is None else folder
    part = folder / f"part-{secrets.token_hex(8)}"
    with part.open("xb") as file:

        def keep(hexdigest: str) -> Path:
            file.flush()
            kept = part.rename(folder / hexdigest)
            whole = [path for path in folder.iterdir() if not path.name.startswith("part-")]
            for old in sorted(whole, key=lambda path: path.stat().st_mtime_ns)[:-KEPT_FILES]:
                old.unlink()
            return kept

        try:
            yield file, keep
        finally:
            part.unlink(missing_ok=True)
