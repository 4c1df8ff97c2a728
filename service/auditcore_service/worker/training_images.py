"""The images of one training in the SQL database and the blob store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.images.encoded import EncodedImage
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.worker.stored_images import StoredImages


@final
class TrainingImages:
    """Images to train on, and after them those for validation, in one counting; an `ImageStorage`."""

    def __init__(
        self,
        training_id: str,
        tenant: str,
        request: TrainingRequest,
        *,
        training: int,
        database: Database,
        blobs: BlobStore,
        access: AccessRules,
    ) -> None:
        """Remember the training; nothing is read yet.

        Args:
            training_id: Of the training.
            tenant: Whose it is.
            request: Names the images, as stored batches or as URIs.
            training: Number of images to train on.
            database: Holds batches and the digests of what was fetched.
            blobs: Holds the bytes of the tenant.
            access: What URIs may reach.
        """
        self._count = training
        self._training = StoredImages(
            training_id, tenant, request.images, database=database, blobs=blobs, access=access, field="images"
        )
        self._validation = (
            None
            if isinstance(request.validation, HeldOut)
            else StoredImages(
                training_id,
                tenant,
                request.validation,
                database=database,
                blobs=blobs,
                access=access,
                field="validation",
                first=training,
            )
        )

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices, in this order; each has the number that it has in its own reference.

        Args:
            indices: Positions, counted from 0 over both references.
            progress: Called before every slow read; may raise AuditCancelled.

        Raises:
            InputError: An image cannot be read.
        """
        found: dict[int, EncodedImage] = {}
        for images, first in ((self._training, 0), (self._validation, self._count)):
            own = [index for index in indices if (index >= self._count) == (first > 0)]
            if images is not None and own:
                read = images.read([index - first for index in own], progress=progress)
                found |= {index: replace(image, index=index - first) for index, image in zip(own, read, strict=True)}
        return [found[index] for index in indices]
