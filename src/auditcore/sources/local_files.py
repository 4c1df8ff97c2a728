"""Files of this machine: `file:` and `package:`."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore.sources.verification import check_size


def local_file(uri: str, *, field: str) -> Path:
    """The path behind a `file:` or `package:` URI that `AccessRules.check_uri` has allowed.

    Raises:
        UnreachableResource: There is no such file, it is not a regular file, or this process may not read it.
        UnsafeReference: The path points outside its package.
    """
    parts = urlsplit(uri)
    if parts.scheme == "package":
        path = _package_file(parts.path, field=field)
    else:
        path = Path(os.path.realpath(unquote(parts.path)))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        msg = f"no file can be read at {uri}; check the path"
        raise UnreachableResource(msg, field=field) from error
    if not stat.S_ISREG(mode):
        msg = f"{uri} is not a regular file; name one"
        raise UnreachableResource(msg, field=field)
    try:
        # `os.access` does not ask landlock, behind which workers compute
        path.open("rb").close()
    except OSError as error:
        msg = (
            f"this process may not read {uri}; ask the operator to change the permissions, to keep it in a folder of "
            "AUDIT_FILE_ROOTS that does not hold the data of the service, or to start the workers again"
        )
        raise UnreachableResource(msg, field=field) from error
    return path


def _package_file(path: str, *, field: str) -> Path:
    """The file of an installed package, found without importing it: importing runs code."""
    package, _, inside = path.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        msg = f"package {package!r} is not installed here; install it beside auditcore, such as with auditcore[demo]"
        raise UnreachableResource(msg, field=field)
    for folder in folders:
        root = os.path.realpath(folder)
        file = Path(os.path.realpath(Path(root) / inside))
        if not file.is_relative_to(root):
            msg = f"{inside!r} points outside the package {package!r}; name a file inside it"
            raise UnsafeReference(msg, field=field)
        if file.exists():
            return file
    msg = f"package {package!r} has no file {inside!r}; check the path"
    raise UnreachableResource(msg, field=field)


def pin_file(uri: str, *, limit_bytes: int, field: str) -> str | None:
    """The `sha256:...` of a file; None if this machine cannot read it.

    Raises:
        UnsafeReference: The path points outside its package.
        LimitExceeded: The file has more than `limit_bytes`.
    """
    try:
        path = local_file(uri, field=field)
    except UnreachableResource:
        return None
    found = path.stat()
    check_size(found.st_size, limit_bytes, field)
    return _digest_of(path, found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=256)
def _digest_of(path: Path, _size: int, _modified: int, _inode: int) -> str:
    """Digest of a file, remembered until the file changes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
