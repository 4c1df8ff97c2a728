"""Blobs by content address, in a folder or in any store that fsspec supports."""

from __future__ import annotations

import copy
import errno
import functools
import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar, final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from auditcore.contracts.canonical_json import sha256
from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore_service.principals import DEFAULT_TENANT

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}\.(part|damaged)")

_STORED, _SET_ASIDE, _TENANTS = "sha256", "set-aside", "tenants"
"""Folders of a store: blobs, blobs that nothing referenced when the collector looked, and the stores of tenants."""

_PROBES = "probes"
"""Folder of the small objects by which `check` finds out whether the store can be written."""

_PROBE = b"auditcore writes and removes this to find out whether it can write"

_CHUNK_BYTES = 2**20
"""How much of a large blob is in memory at a time."""

_PART_BYTES = 16 * 2**20
"""Size of a part of an upload to an object store. S3 takes at least 5 MiB and at most 10 000 parts."""

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class BlobStoreUnavailable(OSError):
    """The blob store cannot be read or written now: it is full, read-only or not reachable. The message says why."""


@contextmanager
def _reaching_the_store() -> Iterator[None]:
    """Raise one error for everything that can be wrong with a store: each kind of store has errors of its own.

    That a blob is missing is no such error.
    """
    try:
        yield
    except (FileNotFoundError, BlobStoreUnavailable):
        raise
    except OSError as error:
        msg = f"the blob store cannot be used: {error.strerror or error}"
        raise BlobStoreUnavailable(error.errno or errno.EIO, msg) from error
    except Exception as error:
        # clients of object stores raise what their libraries raise
        msg = f"the blob store cannot be used: {type(error).__name__}: {error}"
        raise BlobStoreUnavailable(errno.EIO, msg) from error


def _reaches_the_store(method: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    @functools.wraps(method)
    def reaching(*args: _Given.args, **kwargs: _Given.kwargs) -> _Found:
        with _reaching_the_store():
            return method(*args, **kwargs)

    return reaching


@final
@dataclass(frozen=True)
class StoredBlob:
    """A blob as a listing shows it.

    Attributes:
        digest: Its digest.
        size_bytes: Its size.
        written_at: When it was written, or set aside, seconds since 1970.
    """

    digest: str
    size_bytes: int
    written_at: float


@final
class BlobStore:
    """Immutable blobs below one fsspec URL.

    The same bytes are stored once. Reading verifies the digest, so a damaged blob is an error and never a wrong number.
    Storing the same bytes again repairs it.

    A blob is deleted in two steps, because `put` writes nothing where the same bytes are stored already: the collector
    may look before the row that references them is committed. It first sets a blob aside. From then on `put` writes the
    bytes again, and `get` still finds them. Only blobs that stay set aside without a reference are deleted.
    """

    def __init__(self, url: str) -> None:
        # no cache of listings, because other processes store blobs too
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)

    def of(self, tenant: str) -> BlobStore:
        """The blobs of one tenant: a folder of its own, but the whole store for `DEFAULT_TENANT`."""
        if tenant == DEFAULT_TENANT:
            return self
        view = copy.copy(self)
        view._root = f"{self._root}/{_TENANTS}/{tenant}"  # noqa: SLF001 - the same class
        return view

    def tenants(self) -> frozenset[str]:
        """Every tenant that may have blobs; called on the whole store."""
        folders = self._listed(f"{self._root}/{_TENANTS}")
        return frozenset({DEFAULT_TENANT, *(_last_part(folder) for folder in folders)})

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest; they have reached the disk.

        A blob of a folder that is damaged is written again. What is stored already is compared, which takes less time
        than computing its digest.

        Raises:
            BlobStoreUnavailable: The store cannot be written; nothing of the blob is left behind.
        """
        digest = self.write(data)
        self.sync((digest,))
        return digest

    def put_file(self, stream: BinaryIO) -> str:
        """Store what a stream holds, from its beginning to its end, and return its digest; it has reached the disk.

        The stream is read twice, in pieces, so that a large file is never in memory.

        Args:
            stream: Can be read again from its beginning.

        Raises:
            BlobStoreUnavailable: The store cannot be written; nothing of the blob is left behind.
        """
        digest = digest_of_stream(stream)
        size = stream.tell()
        if not self._holds(digest, stream, size):
            stream.seek(0)
            self._write(digest, stream)
        self.sync((digest,))
        return digest

    def write(self, data: bytes) -> str:
        """Store bytes and return their digest. A power failure may lose them until `sync` has been called.

        Raises:
            BlobStoreUnavailable: The store cannot be written; nothing of the blob is left behind.
        """
        digest = sha256(data)
        if not self._holds(digest, io.BytesIO(data), len(data)):
            self._write(digest, io.BytesIO(data), whole=data)
        return digest

    @_reaches_the_store
    def sync(self, digests: Iterable[str]) -> None:
        """Wait until blobs, and their entries in their folders, have reached the disk.

        Object stores answer only when an object is safe, so that there is nothing to wait for.

        Args:
            digests: Blobs that were written. Also those that were found: another writer may not be as far yet.

        Raises:
            BlobStoreUnavailable: The disk reports an error.
        """
        if not isinstance(self._fs, LocalFileSystem):
            return
        paths = {self._path(digest) for digest in digests}
        for path in (*sorted(paths), *sorted({path.rsplit("/", 1)[0] for path in paths})):
            # a collector may have set one aside since; its file is the same
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    @_reaches_the_store
    def _holds(self, digest: str, stream: BinaryIO, size: int) -> bool:
        """Whether the bytes of a stream are stored. Of an object store only the size is looked at: it checks itself."""
        path = self._path(digest)
        if self._size(path) != size:
            return False
        if not isinstance(self._fs, LocalFileSystem):
            return True
        stream.seek(0)
        with suppress(FileNotFoundError), Path(path).open("rb") as stored:
            while (piece := stored.read(_CHUNK_BYTES)) == stream.read(_CHUNK_BYTES):
                if not piece:
                    return True
        return False

    @_reaches_the_store
    def _write(self, digest: str, stream: BinaryIO, *, whole: bytes | None = None) -> None:
        """Write what a stream holds. `whole` is all of it, where that is in memory anyway."""
        path = self._path(digest)
        if not isinstance(self._fs, LocalFileSystem):
            if whole is not None:
                self._fs.pipe_file(path, whole)
                return
            # a connection that breaks may leave a shorter object: its size shows it, and the next `put` writes it again
            with self._fs.open(path, "wb", block_size=_PART_BYTES) as target:
                shutil.copyfileobj(stream, target, _CHUNK_BYTES)
            return
        # a reader must never see a partial file, so that it gets its name at the end
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        part = Path(f"{path}.{uuid.uuid4().hex}.part")
        try:
            with part.open("wb") as target:
                shutil.copyfileobj(stream, target, _CHUNK_BYTES)
            part.replace(path)
        finally:
            # otherwise every attempt on a full disk would leave a file behind
            part.unlink(missing_ok=True)

    def get(self, digest: str, *, field: str = "digest") -> bytes:
        """Return the bytes of a digest.

        Raises:
            UnreachableResource: Nothing is stored under the digest.
            DigestMismatch: The stored bytes are damaged. They are set aside, so that the next `put` writes them again.
            BlobStoreUnavailable: The store cannot be read.
        """
        _check_digest(digest, field)
        data = self._read(self._path(digest))
        set_aside = data is None
        # again at the end, because a collector may restore a blob between the two looks
        for folder in (_SET_ASIDE, _STORED):
            data = self._read(self._path(digest, folder)) if data is None else data
        if data is None:
            msg = f"nothing is stored under {digest}; upload it first"
            raise UnreachableResource(msg, field=field)
        actual = sha256(data)
        if actual != digest:
            self._forget_damaged(digest)
            raise DigestMismatch(expected=digest, actual=actual, field=field)
        if set_aside:
            # what is read may be about to be referenced
            self.put(data)
        return data

    def get_start(self, digest: str, length: int, *, field: str = "digest") -> tuple[bytes, int]:
        """Return the first bytes of a blob, unverified, and its size. For headers of files that may be large.

        Raises:
            UnreachableResource: Nothing is stored under the digest.
            BlobStoreUnavailable: The store cannot be read.
        """
        _check_digest(digest, field)
        for folder in (_STORED, _SET_ASIDE, _STORED):
            path = self._path(digest, folder)
            with _reaching_the_store(), suppress(FileNotFoundError):
                size = int(self._fs.info(path)["size"])
                return self._fs.cat_file(path, start=0, end=min(length, size)), size
        msg = f"nothing is stored under {digest}; upload it first"
        raise UnreachableResource(msg, field=field)

    @_reaches_the_store
    def _forget_damaged(self, digest: str) -> None:
        """Take damaged bytes out of the way, so that the next `put` of the right ones writes them."""
        path = self._path(digest)
        with suppress(FileNotFoundError):
            if not isinstance(self._fs, LocalFileSystem):
                # somebody may have stored the right bytes in the meantime
                if sha256(self._fs.cat_file(path)) != digest:
                    self._fs.rm_file(path)
                return
            aside = Path(f"{path}.{uuid.uuid4().hex}.damaged")
            Path(path).replace(aside)
            if sha256(aside.read_bytes()) == digest:
                aside.replace(path)

    def list_stored(self) -> Iterator[StoredBlob]:
        """Every blob that is not set aside."""
        return self._blobs(_STORED)

    def list_set_aside(self) -> Iterator[StoredBlob]:
        """Every blob that is set aside; `written_at` is the time of that."""
        return self._blobs(_SET_ASIDE)

    @_reaches_the_store
    def set_aside(self, digest: str) -> None:
        """Set a blob aside; does nothing if another collector has just done it."""
        path, aside = self._path(digest), self._path(digest, _SET_ASIDE)
        with suppress(FileNotFoundError):
            if isinstance(self._fs, LocalFileSystem):
                self._fs.makedirs(aside.rsplit("/", 1)[0], exist_ok=True)
                # a file that is renamed keeps its time, and from now on the time of setting aside counts
                os.utime(path)
                Path(path).replace(aside)
            else:
                self._fs.cp_file(path, aside)
                self._fs.rm_file(path)

    @_reaches_the_store
    def restore(self, digest: str) -> None:
        """Undo `set_aside`; does nothing if another collector has just done it."""
        path, aside = self._path(digest), self._path(digest, _SET_ASIDE)
        with suppress(FileNotFoundError):
            if isinstance(self._fs, LocalFileSystem):
                # a collection must also work on a full disk, which has no room for a copy
                self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                Path(aside).replace(path)
            else:
                if self._size(path) is None:
                    self._fs.pipe_file(path, self._fs.cat_file(aside))
                self._fs.rm_file(aside)

    @_reaches_the_store
    def delete_set_aside(self, digest: str) -> None:
        """Delete a blob that is set aside; does nothing if another collector has just done it."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(digest, _SET_ASIDE))

    @_reaches_the_store
    def delete_parts(self, *, before: float) -> int:
        """Delete what writers left in a folder when they were killed in the middle of a blob, and damaged blobs.

        Args:
            before: Only files written before this time, seconds since 1970.

        Returns:
            Their number.
        """
        deleted = 0
        if isinstance(self._fs, LocalFileSystem):
            for file in self._files(_STORED):
                if _PART.fullmatch(_last_part(file)) and _written_at(file) < before:
                    with suppress(FileNotFoundError):
                        self._fs.rm_file(file["name"])
                        deleted += 1
        return deleted

    @_reaches_the_store
    def check(self) -> None:
        """Check that the store can be written, by a small object that is removed again; create its folder or bucket.

        Raises:
            BlobStoreUnavailable: It is not reachable, full or read-only.
        """
        self._fs.makedirs(self._root, exist_ok=True)
        probe = f"{self._root}/{_PROBES}/{uuid.uuid4().hex}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                self._fs.makedirs(f"{self._root}/{_PROBES}", exist_ok=True)
                with Path(probe).open("wb") as file:
                    file.write(_PROBE)
                    # some file systems notice only now that they are full
                    file.flush()
                    os.fsync(file.fileno())
            else:
                self._fs.pipe_file(probe, _PROBE)
        finally:
            with suppress(FileNotFoundError):
                self._fs.rm_file(probe)

    def _blobs(self, folder: str) -> Iterator[StoredBlob]:
        for file in self._files(folder):
            if _NAME.fullmatch(_last_part(file)):
                yield StoredBlob(f"sha256:{_last_part(file)}", file["size"], _written_at(file))

    def _files(self, folder: str) -> Iterator[Mapping[str, Any]]:
        """The listing of one subfolder after the other, so that no list of all blobs is in memory."""
        for subfolder in self._listed(f"{self._root}/{folder}"):
            yield from self._listed(subfolder["name"])

    def _listed(self, path: str) -> list[Mapping[str, Any]]:
        try:
            with _reaching_the_store():
                found: list[Mapping[str, Any]] = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return found

    def _read(self, path: str) -> bytes | None:
        try:
            with _reaching_the_store():
                data: bytes = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        return data

    def _path(self, digest: str, folder: str = _STORED) -> str:
        name = digest.removeprefix("sha256:")
        return f"{self._root}/{folder}/{name[:2]}/{name}"

    def _size(self, path: str) -> int | None:
        try:
            size: int = self._fs.info(path)["size"]
        except FileNotFoundError:
            return None
        return size


def digest_of_stream(stream: BinaryIO) -> str:
    """Digest of what a stream holds, from its beginning; it is read in pieces, to its end."""
    found = hashlib.sha256()
    stream.seek(0)
    while piece := stream.read(_CHUNK_BYTES):
        found.update(piece)
    return f"sha256:{found.hexdigest()}"


def _check_digest(digest: str, field: str) -> None:
    if not _DIGEST.fullmatch(digest):
        # the digest becomes part of a path, so nothing else is allowed
        msg = f"{digest!r} is not a digest; write sha256: and 64 hexadecimal digits"
        raise UnreachableResource(msg, field=field)


def _last_part(info: Mapping[str, Any]) -> str:
    """The last part of the path of an entry of a listing."""
    return str(info["name"]).rstrip("/").rsplit("/", 1)[-1]


def _written_at(info: Mapping[str, Any]) -> float:
    """When an entry of a listing was written, seconds since 1970; fsspec leaves the name of this to the stores."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        match info.get(name):
            case datetime() as time:
                return time.timestamp()
            case float() | int() as seconds:
                return float(seconds)
            case str() as text:
                return datetime.fromisoformat(text).timestamp()
    msg = f"the blob store does not say when {info['name']} was written; use another, such as a folder or s3://"
    raise RuntimeError(msg)
