"""One digest for the files of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from auditcore.contracts.canonical_json import digest_of
from auditcore.errors import LimitExceeded


def folder_digest(folder: Path, names: Iterable[str], *, limit_bytes: int, field: str) -> str:
    """sha256 over the canonical JSON of relative path -> sha256 of the file.

    Args:
        folder: The folder of the files.
        names: Relative paths, with slashes.
        limit_bytes: Most bytes of all files together.
        field: Path in the request, for errors.

    Raises:
        LimitExceeded: The files have more than `limit_bytes`.
    """
    listed = sorted(names)
    size = sum((folder / name).stat().st_size for name in listed)
    if size > limit_bytes:
        raise LimitExceeded(what="the model", limit=limit_bytes, actual=size, unit="bytes", field=field)
    digests = {}
    for name in listed:
        with (folder / name).open("rb") as file:
            digests[name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return digest_of(digests)
