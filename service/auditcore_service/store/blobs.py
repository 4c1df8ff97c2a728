"""Blobs by content address, in a folder or in any store that fsspec supports."""

from __future__ import annotations

import copy
import re
import uuid
from contextlib import suppress
from typing import final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from auditcore.contracts.canonical_json import sha256
from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore_service.principals import DEFAULT_TENANT

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@final
class BlobStore:
    """Immutable blobs below one fsspec URL.

    The same bytes are stored once. Reading verifies the digest, so a damaged blob is an error and never a wrong number.
    """

    def __init__(self, url: str) -> None:
        # no cache of listings, because other processes store blobs too
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)

    def of(self, tenant: str) -> BlobStore:
        """The blobs of one tenant: a folder of its own, but the whole store for `DEFAULT_TENANT`."""
        if tenant == DEFAULT_TENANT:
            return self
        view = copy.copy(self)
        view._root = f"{self._root}/tenants/{tenant}"  # noqa: SLF001 - the same class
        return view

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
        try:
            data: bytes = self._fs.cat_file(self._path(digest))
        except FileNotFoundError as error:
            msg = f"nothing is stored under {digest}; upload it first"
            raise UnreachableResource(msg, field=field) from error
        actual = sha256(data)
        if actual != digest:
            raise DigestMismatch(expected=digest, actual=actual, field=field)
        return data

    def check(self) -> None:
        """Check that the store is reachable; create its folder or bucket if it does not exist.

        Raises:
            OSError: The store is not reachable.
        """
        self._fs.makedirs(self._root, exist_ok=True)
        # a prefix of an object store does not exist before its first blob
        with suppress(FileNotFoundError):
            self._fs.info(self._root)

    def _path(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return f"{self._root}/sha256/{name[:2]}/{name}"

    def _size(self, path: str) -> int | None:
        try:
            size: int = self._fs.info(path)["size"]
        except FileNotFoundError:
            return None
        return size
