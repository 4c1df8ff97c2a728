"""Objects of S3, Google Cloud Storage and Azure, read through fsspec with credentials of the operator's environment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from auditcore.errors import InputError, LimitExceeded, UnreachableResource, UnsafeReference

CHUNK_BYTES = 4 * 2**20
MOST_DIGESTS = 256

_DIGESTS: dict[tuple[str, str], str] = {}
"""Digests of objects by URI and entity tag."""


def stream_object(uri: str, write: Callable[[bytes], object], *, limit_bytes: int, field: str) -> str:
    """Pass an object on piece by piece, and return the hexadecimal sha256 of the whole.

    That the operator allows the URI is checked by `AccessRules.check_uri` before this is called.

    Args:
        uri: Such as `s3://bucket/key`.
        write: Receives the pieces in order.
        limit_bytes: Most bytes accepted; the size is checked before the object is read, and while it is read.
        field: Path of the URI in the request, for errors.

    Raises:
        UnreachableResource: There is no such object, or the credentials do not allow to read it.
        LimitExceeded: The object is larger than `limit_bytes`.
    """
    with _found(uri, limit_bytes=limit_bytes, field=field) as (system, path, _):
        return _copied(system.open(path, "rb", block_size=CHUNK_BYTES), write, limit_bytes=limit_bytes, field=field)


def hash_object(uri: str, *, limit_bytes: int, field: str) -> str:
    """The `sha256:...` of an object, remembered as long as its store gives it the same entity tag.

    Arguments and errors are those of `stream_object`.
    """
    with _found(uri, limit_bytes=limit_bytes, field=field) as (system, path, info):
        # an entity tag changes with the bytes; Azure and Google spell its name differently from S3
        tag = next((str(info[name]) for name in ("ETag", "etag") if info.get(name)), None)
        known = _DIGESTS.get((uri, tag)) if tag is not None else None
        if known is not None:
            return known
        source = system.open(path, "rb", block_size=CHUNK_BYTES)
        digest = f"sha256:{_copied(source, lambda _: None, limit_bytes=limit_bytes, field=field)}"
        if tag is not None:
            while len(_DIGESTS) >= MOST_DIGESTS:
                _DIGESTS.pop(next(iter(_DIGESTS)), None)
            _DIGESTS[uri, tag] = digest
        return digest


def copy_objects(uri: str, folder: Path, *, limit_bytes: int, most: int, field: str) -> None:
    """Copy all objects below a prefix into a folder, after their sizes were checked.

    Args:
        uri: Such as `s3://bucket/prefix`.
        folder: An existing folder to copy to.
        limit_bytes: Most bytes of all objects together.
        most: Largest number of objects.
        field: Path of the URI in the request, for errors.

    Raises:
        UnreachableResource: There is no object, or the credentials do not allow to read it.
        LimitExceeded: There are too many objects, or they are too large.
        UnsafeReference: A key points outside the folder.
    """
    with _errors_of(uri, field):
        system, path = _system(uri)
        found = system.find(path, detail=True)
        if not found:
            msg = f"there is no object below {uri}; check bucket and prefix"
            raise UnreachableResource(msg, field=field)
        if len(found) > most:
            raise LimitExceeded(what="the folder", limit=most, actual=len(found), unit="objects", field=field)
        _check(sum(int(info.get("size") or 0) for info in found.values()), limit_bytes, field)
        for key in found:
            inside = PurePosixPath(key).relative_to(path)
            if ".." in inside.parts:
                msg = f"the key {key!r} points outside its prefix; rename the object"
                raise UnsafeReference(msg, field=field)
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(key, str(target))


@contextmanager
def _found(uri: str, *, limit_bytes: int, field: str) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """File system, path and description of an object, after its kind and size were checked."""
    with _errors_of(uri, field):
        system, path = _system(uri)
        info = system.info(path)
        _refuse_folder(uri, info.get("type"), field)
        _check(int(info.get("size") or 0), limit_bytes, field)
        yield system, path, info


def _system(uri: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - an extra, like the stores behind it

    # without caches: another process may have replaced the object a moment ago
    system, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, skip_instance_cache=True)
    return system, str(path)


@contextmanager
def _errors_of(uri: str, field: str) -> Iterator[None]:
    """Turn what each store raises for a missing bucket, a refused key or a silent host into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        scheme = urlsplit(uri).scheme
        msg = f"{scheme}: needs a package that is not installed here ({error}); install auditcore[storage]"
        raise UnreachableResource(msg, field=field) from error
    except Exception as error:
        raise _unreachable(uri, error, field) from error


def _copied(source: Any, write: Callable[[bytes], object], *, limit_bytes: int, field: str) -> str:  # noqa: ANN401 - fsspec's own file
    digest, size = hashlib.sha256(), 0
    with source:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            _check(size, limit_bytes, field)
            digest.update(chunk)
            write(chunk)
    return digest.hexdigest()


def _refuse_folder(uri: str, kind: object, field: str) -> None:
    if kind == "directory":
        msg = f"{uri} is a folder; name one object"
        raise UnreachableResource(msg, field=field)


def _check(size: int, limit_bytes: int, field: str) -> None:
    if size > limit_bytes:
        raise LimitExceeded(what="the object", limit=limit_bytes, actual=size, unit="bytes", field=field)


def _unreachable(uri: str, error: Exception, field: str) -> UnreachableResource:
    if isinstance(error, FileNotFoundError):
        msg = f"there is no object {uri}; check bucket and key"
    elif isinstance(error, PermissionError):
        msg = f"{uri} may not be read ({error}); the operator's credentials must allow it"
    else:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"{uri} cannot be read ({type(error).__name__}: {first_line}); check bucket, endpoint and credentials"
    return UnreachableResource(msg, field=field)
