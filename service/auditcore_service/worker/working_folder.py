"""The folder of a worker, and its working folder, which is empty: no relative path leads a library anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditcore_service.worker.locked_folders import MODE, LockedFolder, base_of


@contextmanager
def empty_working_folder(inside: Path | None = None) -> Iterator[Path]:
    """Make a new private folder the working folder of this process and of its children.

    Importing modules works as before. The folder is removed at the end, or by the next worker if this one is killed.

    Args:
        inside: Folder for the folders of all workers; below the one for temporary files if None.

    Yields:
        A private folder for other files of the worker; the working folder is in it.

    Raises:
        PermissionError: The folder for the folders of all workers belongs to another user.
    """
    before = Path.cwd()
    # an empty entry means the current working folder
    sys.path[:] = [entry or str(before) for entry in sys.path]
    folder = LockedFolder(base_of("worker") if inside is None else inside)
    try:
        (folder.path / "working").mkdir(mode=MODE)
        os.chdir(folder.path / "working")
        yield folder.path
    finally:
        os.chdir(before)
        folder.remove()
