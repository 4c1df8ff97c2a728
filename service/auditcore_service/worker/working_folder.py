"""An empty folder to compute in: a relative path that a library may be made to open leads to nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def empty_working_folder(inside: Path | None = None) -> Iterator[Path]:
    """Make a new private folder the working folder of this process and of its children.

    Modules that could be imported before still can. The folder is removed at the end; a process that is killed leaves
    it behind, empty.

    Args:
        inside: Where to make it; where temporary files go if None.

    Yields:
        The folder.
    """
    before = Path.cwd()
    # the empty entry means the working folder, whichever that is at the time
    sys.path[:] = [entry or str(before) for entry in sys.path]
    folder = Path(tempfile.mkdtemp(prefix="auditcore-worker-", dir=inside))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # systemd-tmpfiles removes what is old below /tmp, but no folder with a lock
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)
