"""Images that a request names, as a worker reads them: of a stored batch, or fetched once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from sqlalchemy import Connection

from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import BatchManifest, ImageBatchReference, ImagesReference, ImageUris
from auditcore.contracts.masks import Mask, StoredMask
from auditcore.errors import InputError
from auditcore.images.encoded import EncodedImage
from auditcore.orchestration.reading_images import encoded_uri, read_uri
from auditcore_service.store.batches import batch_size, find_batch, freeze_image, frozen_images
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database

_INLINE: Final = "inline images and tensors are stored as a batch at submit, got {}"


def count_images(connection: Connection, images: ImagesReference) -> int:
    """Number of images of a stored batch or of URIs; 0 if the batch is gone, which reading them reports."""
    match images:
        case ImageBatchReference(digest=digest):
            return batch_size(connection, digest) or 0
        case ImageUris(uris=uris):
            return len(uris)
        case other:
            raise TypeError(_INLINE.format(other.kind))


@final
class StoredImages:
    """The images of one reference of an audit or a training."""

    def __init__(
        self,
        audit_id: str,
        tenant: str,
        images: ImagesReference,
        *,
        database: Database,
        blobs: BlobStore,
        access: AccessRules,
        field: str,
        first: int = 0,
    ) -> None:
        """Remember what is meant; nothing is read yet.

        Args:
            audit_id: Of the audit or the training.
            tenant: Whose it is.
            images: A stored batch, or URIs.
            database: Holds batches and the digests of what was fetched.
            blobs: Holds the bytes of the tenant.
            access: What URIs may reach.
            field: The field of the request, for errors.
            first: Number under which the first fetched image is kept; each reference of a job has numbers of its own.
        """
        self._audit_id = audit_id
        self._tenant = tenant
        self._images = images
        self._database = database
        self._blobs = blobs
        self._access = access
        self._field = field
        self._first = first

    def read(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices of the reference, in this order.

        Args:
            indices: Positions, counted from 0.
            progress: Called before every slow read; may raise AuditCancelled.

        Raises:
            InputError: An image cannot be read.
        """
        match self._images:
            case ImageBatchReference(digest=digest):
                with self._database.reading(self._tenant) as connection:
                    manifest = find_batch(connection, digest)
                if manifest is None:
                    msg = f"no image batch {digest} is stored; upload it again"
                    raise InputError(msg, field=f"{self._field}.digest")
                return self._batch_images(manifest, indices)
            case ImageUris() as images:
                return self._fetched_images(images, indices, progress)
            case other:
                raise TypeError(_INLINE.format(other.kind))

    def _batch_images(self, manifest: BatchManifest, indices: Sequence[int]) -> Sequence[EncodedImage]:
        return [
            EncodedImage(
                index,
                entry.name,
                self._blobs.get(entry.digest, field=f"{self._field}.{index}"),
                entry.label,
                entry.boxes,
                self._masks(entry.masks, index),
            )
            for index, entry in ((index, manifest.entries[index]) for index in indices)
        ]

    def _masks(self, stored: Sequence[StoredMask], index: int) -> tuple[Mask, ...]:
        return tuple(
            Mask(polygons=mask.polygons, rle=mask.rle, label=mask.label)
            if mask.png is None
            else Mask.of_png(self._blobs.get(mask.png, field=f"{self._field}.masks.{index}"), label=mask.label)
            for mask in stored
        )

    def _fetched_images(
        self, images: ImageUris, indices: Sequence[int], progress: Callable[[float], None]
    ) -> Sequence[EncodedImage]:
        """Fetch each URI only once in the whole audit: a second attempt must see the same bytes."""
        with self._database.reading() as connection:
            frozen = frozen_images(connection, self._audit_id)
        encoded = []
        for index in indices:
            image = images.uris[index]
            digest = frozen.get(self._first + index)
            if digest is None:
                progress(0.0)
                data = read_uri(image, index, self._access, blobs=self._blobs.get)
                stored = self._blobs.put(data)
                with self._database.writing() as connection:
                    digest = freeze_image(connection, self._audit_id, self._first + index, stored)
            encoded.append(encoded_uri(image, index, self._blobs.get(digest, field=f"{self._field}.uris.{index}.uri")))
        return encoded
