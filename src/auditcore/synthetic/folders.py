"""Folders that are written as a whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from auditcore.errors import InvalidRequest


def require_new(folder: Path) -> None:
    """Refuse a folder that there is something in.

    Raises:
        InvalidRequest: It is no folder, is not empty, or cannot be read.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise _unusable(folder, error) from error
    if taken:
        msg = f"{folder} exists already; name a new folder, or remove it"
        raise InvalidRequest(msg, field="path")


def write_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder, which appears when all of them are written.

    Args:
        folder: The folder; it does not exist yet, or is empty. Folders above it are made.
        files: Path of each file in the folder, with slashes, and its content.

    Raises:
        InvalidRequest: There is something in the folder, or it cannot be written.
    """
    require_new(folder)
    draft = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        for name, content in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        draft.rename(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unusable(folder: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(
        f"{folder} cannot be written ({error.strerror}); choose another folder, or make room", field="path"
    )
