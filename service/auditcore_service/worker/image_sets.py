"""The images of one training or experiment in the SQL database and the blob store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import ImagesReference
from auditcore.images.encoded import EncodedImage
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.worker.stored_images import StoredImages


@final
@dataclass(frozen=True)
class ImageSet:
    """The images of one reference.

    Attributes:
        images: A stored batch, or URIs.
        count: Their number.
        field: The field of the request that names them, for errors.
    """

    images: ImagesReference
    count: int
    field: str


@final
class ImageSets:
    """Several sets of images, one after the other in one counting; an `ImageStorage`."""

    def __init__(
        self,
        job_id: str,
        tenant: str,
        sets: Sequence[ImageSet],
        *,
        database: Database,
        blobs: BlobStore,
        access: AccessRules,
    ) -> None:
        """Remember what is meant; nothing is read yet.

        Args:
            job_id: Of the training or the experiment.
            tenant: Whose it is.
            sets: In the order in which they are counted.
            database: Holds batches and the digests of what was fetched.
            blobs: Holds the bytes of the tenant.
            access: What URIs may reach.
        """
        self._stored: list[tuple[range, StoredImages]] = []
        first = 0
        for one in sets:
            stored = StoredImages(
                job_id,
                tenant,
                one.images,
                database=database,
                blobs=blobs,
                access=access,
                field=one.field,
                first=first,
            )
            self._stored.append((range(first, first + one.count), stored))
            first += one.count

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices, in this order; each has the number that it has in its own reference.

        Args:
            indices: Positions, counted from 0 over all sets.
            progress: Called before every slow read; may raise AuditCancelled.

        Raises:
            InputError: An image cannot be read.
        """
        found: dict[int, EncodedImage] = {}
        for positions, images in self._stored:
            own = [index for index in indices if index in positions]
            if own:
                read = images.read([index - positions.start for index in own], progress=progress)
                found |= {
                    index: replace(image, index=index - positions.start) for index, image in zip(own, read, strict=True)
                }
        return [found[index] for index in indices]
