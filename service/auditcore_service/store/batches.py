"""Stored image batches, and the images an audit fetched once and froze."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from auditcore.contracts.images import BatchManifest
from auditcore_service.store.audits import lock_audit
from auditcore_service.store.tables import FROZEN_IMAGES, IMAGE_BATCHES


def insert_batch(connection: Connection, *, digest: str, manifest: BatchManifest, now: float) -> None:
    """Remember a batch; the same batch twice is one batch."""
    if find_batch(connection, digest) is not None:
        return
    values = {
        "digest": digest,
        "manifest": manifest.model_dump_json(),
        "images": len(manifest.entries),
        "size_bytes": sum(entry.size_bytes for entry in manifest.entries),
        "created_at": now,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(IMAGE_BATCHES).values(**values))
    except IntegrityError:
        # on PostgreSQL another upload of the same images may have won the race; content addresses make that the same
        return


def find_batch(connection: Connection, digest: str) -> BatchManifest | None:
    """What a batch holds, or None."""
    manifest = connection.execute(
        select(IMAGE_BATCHES.c.manifest).where(IMAGE_BATCHES.c.digest == digest)
    ).scalar_one_or_none()
    return None if manifest is None else BatchManifest.model_validate_json(manifest)


def batch_size(connection: Connection, digest: str) -> int | None:
    """Images in a batch, or None if there is no such batch; does not read its manifest."""
    return connection.execute(
        select(IMAGE_BATCHES.c.images).where(IMAGE_BATCHES.c.digest == digest)
    ).scalar_one_or_none()


def freeze_image(connection: Connection, audit_id: str, index: int, digest: str) -> str:
    """Decide once which bytes an image URI meant for this audit.

    Returns:
        The digest that counts: that of the first to freeze it.
    """
    lock_audit(connection, audit_id)
    frozen = frozen_images(connection, audit_id).get(index)
    if frozen is not None:
        return frozen
    connection.execute(insert(FROZEN_IMAGES).values(audit_id=audit_id, index=index, digest=digest))
    return digest


def frozen_images(connection: Connection, audit_id: str) -> dict[int, str]:
    """Image index -> digest, of the images fetched so far."""
    rows = connection.execute(select(FROZEN_IMAGES).where(FROZEN_IMAGES.c.audit_id == audit_id)).mappings()
    return {row["index"]: row["digest"] for row in rows}
