"""Uploaded maps: bytes in, content addresses out. Only the header is checked here."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import BinaryIO, final

from sqlalchemy import Connection

from auditcore.contracts.map_files import StoredMaps, read_map_layout
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import LimitExceeded, MapsInvalid, UnreachableResource
from auditcore.tensor_files import LENGTH_BYTES, MOST_HEADER_BYTES
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore, digest_of_stream
from auditcore_service.store.database import Database
from auditcore_service.store.map_files import has_map_file, insert_map_file, use_map_file
from auditcore_service.store.usage import lock_usage
from auditcore_service.use_cases.deleted_objects import missing_maps
from auditcore_service.use_cases.quotas import Quotas


@final
class MapUploads:
    """The use cases of uploaded maps."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        blobs: BlobStore,
        quotas: Quotas,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._quotas = quotas
        self._clock = clock

    def store(self, principal: Principal, stream: BinaryIO) -> StoredMaps:
        """Store a file of maps; the same file always has the same digest.

        Raises:
            LimitExceeded: The file is larger than the limit of an image batch.
            MapsInvalid: The file does not contain maps.
            QuotaExceeded: The tenant would store too many bytes.
            BlobStoreUnavailable: The file cannot be stored.
        """
        limit = self._settings.batch_bytes
        size = stream.seek(0, io.SEEK_END)
        if size > limit:
            raise LimitExceeded(what="the file of maps", limit=limit, actual=size, unit="bytes", field="maps")
        stream.seek(0)
        file, _ = read_map_layout(stream.read(LENGTH_BYTES + MOST_HEADER_BYTES), size=size)
        digest, now = digest_of_stream(stream), self._clock()
        with self._database.reading(principal.tenant) as connection:
            known = has_map_file(connection, digest)
        room = None if known else self._quotas.room(principal.tenant)
        if room is not None:
            room.check(size, field="maps")
        self._blobs.of(principal.tenant).put_file(stream)
        with self._database.writing(principal.tenant) as connection:
            # before the file is looked up: of two uploads of it at once, the second needs no room
            lock_usage(connection, principal.tenant)
            if not use_map_file(connection, digest, now=now):
                self._quotas.admit_bytes(connection, principal.tenant, size, field="maps")
                insert_map_file(connection, digest=digest, size_bytes=size, now=now)
        return StoredMaps(digest=digest, size_bytes=size, file=file)

    def check(self, principal: Principal, connection: Connection, plan: AuditPlan, *, images: int) -> None:
        """Refuse a plan whose maps are not stored, or whose number of maps is wrong.

        Raises:
            UnreachableResource: No maps are stored under a digest.
            MapsInvalid: The stored file does not contain maps, or the wrong number of maps.
        """
        for position, explainer in enumerate(plan.explainers):
            if explainer.uploaded_maps is None:
                continue
            field = f"plan.explainers.{position}.maps"
            if not has_map_file(connection, explainer.uploaded_maps):
                raise UnreachableResource(missing_maps(connection, explainer.uploaded_maps).message, field=field)
            # the worker verifies the whole file, which may be large
            start, size = self._blobs.of(principal.tenant).get_start(
                explainer.uploaded_maps, LENGTH_BYTES + MOST_HEADER_BYTES, field=field
            )
            file, _ = read_map_layout(start, size=size, field=field)
            if file.ordered and file.images != images:
                msg = (
                    f"the file holds {file.images} maps in the order of a batch, and the audit has {images} images; "
                    "upload one map per image, or name each map after its image"
                )
                raise MapsInvalid(msg, field=field)
