"""Blobs by content address, in a folder or in any store that fsspec supports."""

from __future__ import annotations

import copy
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from auditcore.contracts.canonical_json import sha256
from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore_service.principals import DEFAULT_TENANT

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}\.part")

_STORED, _SET_ASIDE, _TENANTS = "sha256", "set-aside", "tenants"
"""Folders of a store: blobs, blobs that nothing referenced when the collector looked, and the stores of tenants."""


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
        """Store bytes and return their digest."""
        digest = sha256(data)
        path = self._path(digest)
        if self._size(path) == len(data):
            return digest
        if isinstance(self._fs, LocalFileSystem):
            # a reader must never see a partial file: object stores publish on close, a folder needs the rename
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            part = f"{path}.{uuid.uuid4().hex}.part"
            try:
                self._fs.pipe_file(part, data)
                self._fs.mv(part, path)
            finally:
                # otherwise every attempt on a full disk would leave a file behind
                with suppress(FileNotFoundError):
                    self._fs.rm_file(part)
        else:
            self._fs.pipe_file(path, data)
        return digest

    def get(self, digest: str, *, field: str = "digest") -> bytes:
        """Return the bytes of a digest.

        Raises:
            UnreachableResource: Nothing is stored under the digest.
            DigestMismatch: The stored bytes are damaged.
        """
        if not _DIGEST.fullmatch(digest):
            # the digest becomes part of a path, so nothing else is allowed
            msg = f"{digest!r} is not a digest; write sha256: and 64 hexadecimal digits"
            raise UnreachableResource(msg, field=field)
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
            raise DigestMismatch(expected=digest, actual=actual, field=field)
        if set_aside:
            # what is read may be about to be referenced
            self.put(data)
        return data

    def list_stored(self) -> Iterator[StoredBlob]:
        """Every blob that is not set aside."""
        return self._blobs(_STORED)

    def list_set_aside(self) -> Iterator[StoredBlob]:
        """Every blob that is set aside; `written_at` is the time of that."""
        return self._blobs(_SET_ASIDE)

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

    def delete_set_aside(self, digest: str) -> None:
        """Delete a blob that is set aside; does nothing if another collector has just done it."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(digest, _SET_ASIDE))

    def delete_parts(self, *, before: float) -> int:
        """Delete what writers left in a folder when they were killed in the middle of a blob.

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

    def check(self) -> None:
        """Check that the store is reachable; create its folder or bucket if it does not exist.

        Raises:
            OSError: The store is not reachable.
        """
        self._fs.makedirs(self._root, exist_ok=True)
        # a prefix of an object store does not exist before its first blob
        with suppress(FileNotFoundError):
            self._fs.info(self._root)

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
            found: list[Mapping[str, Any]] = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return found

    def _read(self, path: str) -> bytes | None:
        try:
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
