"""The blobs of one upload, which are stored as long as they fit into what is left of a tenant's limit."""

from __future__ import annotations

from typing import final

from auditcore.contracts.canonical_json import sha256
from auditcore_service.store.blobs import BlobStore
from auditcore_service.use_cases.quotas import Room


@final
class MeteredBlobs:
    """Stores blobs until one does not fit; from then on it only computes digests.

    An upload that is stored already needs no room, and only its digest at the end tells that it is.

    Attributes:
        size_bytes: Bytes of all blobs, also of those that did not fit.
        room: What was left when the upload began; None without a limit.
    """

    def __init__(self, blobs: BlobStore, room: Room | None) -> None:
        self._blobs = blobs
        self.room = room
        self.size_bytes = 0
        self._written: set[str] = set()

    @property
    def overflowed(self) -> bool:
        """Whether some blob did not fit, so that the upload is not stored completely."""
        return self.room is not None and self.size_bytes > self.room.left

    def put(self, data: bytes) -> str:
        """Store bytes if they fit, and return their digest. Call `sync` before anything refers to them."""
        self.size_bytes += len(data)
        if self.overflowed:
            return sha256(data)
        digest = self._blobs.write(data)
        self._written.add(digest)
        return digest

    def sync(self) -> None:
        """Wait until all of them have reached the disk: once for an upload, since the first wait is the longest."""
        self._blobs.sync(self._written)
