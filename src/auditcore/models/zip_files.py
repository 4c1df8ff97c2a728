"""Zip archives of strangers. A damaged one makes `zipfile` raise almost anything; here that is one error."""

from __future__ import annotations

import errno
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditcore.errors import ModelNotLoadable

_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    # of a password that is asked for
    RuntimeError,
    # of names that are no text, and of places before the file
    ValueError,
)
"""What `zipfile` raises for damaged directories and entries, depending on the place of the damage."""

_OF_THE_FILE = frozenset({errno.EINVAL})
"""Errors of the system that a damaged directory causes, by a place before the file.

Others, such as a full disk, are not about the archive.
"""


@contextmanager
def refusing_damage(message: str, *, field: str) -> Iterator[None]:
    """Turn what damage makes `zipfile` raise into an error of the sender.

    The block should do little but call `zipfile`.

    Args:
        message: What is said; `{}` in it becomes the reason.
        field: Path in the request.

    Raises:
        ModelNotLoadable: The archive is damaged.
    """
    try:
        yield
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno not in _OF_THE_FILE | {None}:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelNotLoadable(message.format(reason), field=field) from error


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does; it may be damaged."""
    try:
        return zipfile.is_zipfile(path)
    # it looks only for the end, but raises this where the end says that there are several files
    except zipfile.BadZipFile:
        return True


def entries_of(path: Path) -> tuple[zipfile.ZipInfo, ...]:
    """The directory of a file; empty if the file is no zip archive, or if its directory is damaged."""
    if not is_zip(path):
        return ()
    try:
        with refusing_damage("{}", field=""), zipfile.ZipFile(path) as archive:
            return tuple(archive.infolist())
    except ModelNotLoadable:
        return ()
