"""An empty working folder: a relative path that an attacker makes a library open does not exist."""

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

    Importing modules works as before. The folder is removed at the end; a process that is killed leaves an empty folder
    behind.

    Args:
        inside: Parent folder; the one for temporary files if None.

    Yields:
        The folder.
    """
    before = Path.cwd()
    # an empty entry means the current working folder
    sys.path[:] = [entry or str(before) for entry in sys.path]
    folder = Path(tempfile.mkdtemp(prefix="auditcore-worker-", dir=inside))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # systemd-tmpfiles removes old folders below /tmp, but not locked ones
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)
