"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file: what was there before stays until the new content is complete and on the disk.

    Args:
        path: The file; beside it, a file with the ending `.part` is used meanwhile.
        content: What it will hold.

    Raises:
        OSError: It cannot be written; nothing is left of the attempt.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
