"""Stored image batches, and the digests of images that audits have fetched."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore.contracts.images import BatchManifest
from auditcore_service.store.audits import lock_audit
from auditcore_service.store.tables import FROZEN_IMAGES, IMAGE_BATCHES
from auditcore_service.store.tenancy import owned, owner


def insert_batch(connection: Connection, *, digest: str, manifest: BatchManifest, size_bytes: int, now: float) -> None:
    """Store a batch; storing the same batch again counts as using it.

    Args:
        connection: A write transaction of the tenant.
        digest: Digest of the manifest.
        manifest: The images.
        size_bytes: Bytes of the images and their masks.
        now: Seconds since 1970.
    """
    if use_batch(connection, digest, now=now):
        return
    values = {
        "tenant": owner(connection),
        "digest": digest,
        "manifest": manifest.model_dump_json(),
        "images": len(manifest.entries),
        "size_bytes": size_bytes,
        "created_at": now,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(IMAGE_BATCHES).values(**values))
    except IntegrityError:
        # with content addresses, what is stored is the same batch
        return


def find_batch(connection: Connection, digest: str) -> BatchManifest | None:
    """Return the manifest of a batch of the tenant, or None if there is no such batch."""
    manifest = connection.execute(
        select(IMAGE_BATCHES.c.manifest).where(IMAGE_BATCHES.c.digest == digest, owned(connection, IMAGE_BATCHES))
    ).scalar_one_or_none()
    return None if manifest is None else BatchManifest.model_validate_json(manifest)


def batch_size(connection: Connection, digest: str) -> int | None:
    """Return the number of images of a batch without reading its manifest, or None if there is no such batch."""
    return connection.execute(
        select(IMAGE_BATCHES.c.images).where(IMAGE_BATCHES.c.digest == digest, owned(connection, IMAGE_BATCHES))
    ).scalar_one_or_none()


def use_batch(connection: Connection, digest: str, *, now: float) -> bool:
    """Note that a batch is used now, so that it cannot be deleted before the transaction ends.

    Returns:
        Whether there is such a batch.
    """
    used = update(IMAGE_BATCHES).where(owned(connection, IMAGE_BATCHES), IMAGE_BATCHES.c.digest == digest)
    return bool(connection.execute(used.values(used_at=now)).rowcount)


def lock_batch(connection: Connection, digest: str) -> int | None:
    """Images of a batch that no other transaction can use until this one ends; None if there is no such batch."""
    return connection.execute(
        select(IMAGE_BATCHES.c.images)
        .where(owned(connection, IMAGE_BATCHES), IMAGE_BATCHES.c.digest == digest)
        .with_for_update()
    ).scalar_one_or_none()


def delete_batch(connection: Connection, digest: str) -> None:
    """Delete a batch; the bytes of its images are collected."""
    connection.execute(delete(IMAGE_BATCHES).where(owned(connection, IMAGE_BATCHES), IMAGE_BATCHES.c.digest == digest))


def freeze_image(connection: Connection, audit_id: str, index: int, digest: str) -> str:
    """Fix the bytes of an image URI for this audit.

    Returns:
        The digest that was stored first; it is the one to use.
    """
    lock_audit(connection, audit_id)
    frozen = frozen_images(connection, audit_id).get(index)
    if frozen is not None:
        return frozen
    connection.execute(insert(FROZEN_IMAGES).values(audit_id=audit_id, index=index, digest=digest))
    return digest


def frozen_images(connection: Connection, audit_id: str) -> dict[int, str]:
    """Return image index -> digest of the images fetched so far."""
    rows = connection.execute(select(FROZEN_IMAGES).where(FROZEN_IMAGES.c.audit_id == audit_id)).mappings()
    return {row["index"]: row["digest"] for row in rows}
