"""Collect blobs that nothing references. `BlobStore` says why that takes two steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import structlog
from pydantic import BaseModel, ValidationError

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.contract import Sha256
from auditcore.errors import InputError
from auditcore_service.settings import Settings
from auditcore_service.store.audits import lock_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.contents import (
    AuditContents,
    UnlistedAudit,
    insert_contents,
    mark_listed,
    unlisted_audits,
)
from auditcore_service.store.database import Database
from auditcore_service.store.references import referenced_blobs
from auditcore_service.store.retention import owners

log = structlog.get_logger(__name__)


@final
class _LoadedModel(BaseModel):
    digest: Sha256


@final
class _Result(BaseModel):
    """The part of a report, or of the result of a shard, that names pictures and models; of any version."""

    artifacts: tuple[Artifact, ...] = ()
    model: _LoadedModel | None = None
    models: tuple[_LoadedModel, ...] = ()


@final
@dataclass(frozen=True)
class Amount:
    """Some blobs.

    Attributes:
        blobs: Their number.
        size_bytes: Their size together.
    """

    blobs: int = 0
    size_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.blobs + other.blobs, self.size_bytes + other.size_bytes)


@final
@dataclass(frozen=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        set_aside: Blobs that nothing references; a later collection deletes them.
        deleted: Blobs that an earlier collection had set aside.
        restored: Blobs that an earlier collection had set aside, and that something references by now.
    """

    set_aside: Amount = Amount()
    deleted: Amount = Amount()
    restored: Amount = Amount()

    def __add__(self, other: Collected) -> Collected:
        """Both together."""
        return Collected(self.set_aside + other.set_aside, self.deleted + other.deleted, self.restored + other.restored)


@final
class Collection:
    """The use case. Several may run at once, in several gateways."""

    def __init__(
        self, settings: Settings, *, database: Database, blobs: BlobStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def collect(self, *, dry_run: bool = False) -> Collected:
        """Collect the blobs of every tenant.

        Args:
            dry_run: Change nothing; return what would be done.

        Returns:
            What was done.
        """
        with self._database.reading() as connection:
            tenants = sorted({*owners(connection), *self._blobs.tenants()})
        done = Collected()
        for tenant in tenants:
            done += self._collect(tenant, dry_run=dry_run)
        if done != Collected():
            log.info(
                "blobs_collected",
                set_aside=done.set_aside.blobs,
                deleted=done.deleted.blobs,
                restored=done.restored.blobs,
                freed_bytes=done.deleted.size_bytes,
                dry_run=dry_run,
            )
        return done

    def _collect(self, tenant: str, *, dry_run: bool) -> Collected:
        blobs = self._blobs.of(tenant)
        before = self._clock() - self._settings.collection_grace_s
        # listed before the references are read. A writer of one of these found its bytes stored before they were set
        # aside, so for longer than the grace period, and has committed its row; a later writer has stored them again
        aside = [blob for blob in blobs.list_set_aside() if blob.written_at < before]
        referenced = self._references(tenant, dry_run=dry_run)
        done = Collected()
        for blob in aside:
            amount = Amount(1, blob.size_bytes)
            if bytes.fromhex(blob.digest.removeprefix("sha256:")) in referenced:
                done += Collected(restored=amount)
                if not dry_run:
                    blobs.restore(blob.digest)
            else:
                done += Collected(deleted=amount)
                if not dry_run:
                    blobs.delete_set_aside(blob.digest)
        for blob in blobs.list_stored():
            known = bytes.fromhex(blob.digest.removeprefix("sha256:")) in referenced
            if blob.written_at < before and not known:
                done += Collected(set_aside=Amount(1, blob.size_bytes))
                if not dry_run:
                    blobs.set_aside(blob.digest)
        if not dry_run:
            blobs.delete_parts(before=before)
        return done

    def _references(self, tenant: str, *, dry_run: bool) -> frozenset[bytes]:
        with self._database.reading(tenant) as connection:
            unlisted = unlisted_audits(connection)
        named: set[bytes] = set()
        for audit in unlisted:
            contents = self._contents(tenant, audit)
            named.update(bytes.fromhex(one.removeprefix("sha256:")) for one in contents.pictures)
            if audit.ended and not dry_run:
                with self._database.writing(tenant) as connection:
                    if lock_audit(connection, audit.id) is not None:
                        insert_contents(connection, audit.id, contents)
                        mark_listed(connection, audit.id)
        with self._database.reading(tenant) as connection:
            return referenced_blobs(connection) | named

    def _contents(self, tenant: str, audit: UnlistedAudit) -> AuditContents:
        """What the results of an audit of an earlier release name; a result that is damaged or lost names nothing."""
        pictures: set[str] = set()
        models: set[str] = set()
        for digest in audit.results:
            try:
                result = _Result.model_validate_json(self._blobs.of(tenant).get(digest))
            except (InputError, ValidationError):
                log.warning("result_unreadable", audit_id=audit.id, digest=digest)
                continue
            pictures.update(picture.digest for picture in result.artifacts)
            models.update(model.digest for model in (result.model, *result.models) if model is not None)
        return AuditContents(frozenset(pictures), frozenset(models))
