"""The images, maps, pictures and results of one audit in the SQL database and the blob store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.policy import Row
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.images.encoded import EncodedImage
from auditcore.report.stopping import Observations, observe
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.shards import list_shards
from auditcore_service.worker.stored_images import StoredImages

REMEMBERED = 2048
"""Shards whose observations are kept: a few numbers each, while a result holds all values, curves and records."""


@final
class ObservationCache:
    """The values that the conditions of policies need, kept for the shards seen last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], Observations] = OrderedDict()

    def get(self, blobs: BlobStore, audit_id: str, digest: str, rows: Collection[Row]) -> Observations:
        """What one result says.

        Args:
            blobs: Of the audit's tenant.
            audit_id: Of the audit.
            digest: Of a stored result of the audit's compute wave.
            rows: The results that the conditions of the audit are judged by.
        """
        key = (audit_id, digest)
        if key not in self._seen:
            self._seen[key] = observe(rows, ShardResult.model_validate_json(blobs.get(digest)))
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]


@final
class SqlAuditStorage:
    """The storage of one audit that several workers share; an `AuditStorage`.

    Everything is read from what is stored, so that all workers see the same.
    """

    def __init__(
        self,
        audit_id: str,
        tenant: str,
        request: AuditRequest,
        *,
        database: Database,
        blobs: BlobStore,
        access: AccessRules,
        observed: ObservationCache,
    ) -> None:
        """Remember the audit; nothing is read yet.

        Args:
            audit_id: Of the audit.
            tenant: Whose it is.
            request: Names its images, as a stored batch or as URIs.
            database: Holds batches, frozen images and shards.
            blobs: Holds the bytes of the tenant.
            access: What URIs may reach.
            observed: Shared by all audits of a worker.
        """
        self._images = StoredImages(
            audit_id, tenant, request.images, database=database, blobs=blobs, access=access, field="images"
        )
        self._audit_id = audit_id
        self._database = database
        self._blobs = blobs
        self._observed = observed

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices of the batch, in this order."""
        return self._images.read(indices, progress=progress)

    def read_maps(self, digest: str) -> bytes:
        """A file of uploaded maps."""
        return self._blobs.get(digest)

    def keep_picture(self, data: bytes) -> str:
        """Keep a PNG file and return its digest."""
        return self._blobs.put(data)

    def results(self, wave: Wave, *, model: int | None = None) -> Iterator[ShardResult]:
        """Results of the finished shards of a wave in the order of their images, not that of computing."""
        for number, digest in self._result_digests(wave):
            if model in {None, number}:
                data = self._blobs.get(digest)
                yield ShardResult.model_validate_json(data)

    def observations(self, rows: Collection[Row]) -> Sequence[Observations]:
        """The values of some results in the finished shards of the compute wave."""
        return [
            self._observed.get(self._blobs, self._audit_id, digest, rows)
            for _, digest in self._result_digests("compute")
        ]

    def _result_digests(self, wave: Wave) -> list[tuple[int, str]]:
        """Model and digest of the result of every finished shard of a wave, parts of a shard one after the other."""
        with self._database.reading() as connection:
            shards = list_shards(connection, self._audit_id)
        return [
            (shard.model, shard.result_digest)
            for shard in shards
            if shard.kind == wave and shard.result_digest is not None
        ]
