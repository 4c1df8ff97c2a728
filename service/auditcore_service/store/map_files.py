"""Files of uploaded maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.tables import MAP_FILES
from auditcore_service.store.tenancy import owned, owner


@final
@dataclass(frozen=True)
class StoredMapFile:
    """A file of maps.

    Attributes:
        digest: Its digest.
        size_bytes: Its size; None for a file from before files of maps were listed.
    """

    digest: str
    size_bytes: int | None


def insert_map_file(connection: Connection, *, digest: str, size_bytes: int, now: float) -> None:
    """List a file of maps; storing it again counts as using it."""
    if use_map_file(connection, digest, now=now):
        return
    values = {"tenant": owner(connection), "digest": digest, "size_bytes": size_bytes, "created_at": now}
    try:
        with connection.begin_nested():
            connection.execute(insert(MAP_FILES).values(**values))
    except IntegrityError:
        # on PostgreSQL another upload may have been first
        return


def use_map_file(connection: Connection, digest: str, *, now: float) -> bool:
    """Note that a file is used now, so that it cannot be deleted before the transaction ends.

    Returns:
        Whether there is such a file.
    """
    used = update(MAP_FILES).where(owned(connection, MAP_FILES), MAP_FILES.c.digest == digest).values(used_at=now)
    return bool(connection.execute(used).rowcount)


def has_map_file(connection: Connection, digest: str) -> bool:
    """Whether there is such a file."""
    found = select(MAP_FILES.c.digest).where(owned(connection, MAP_FILES), MAP_FILES.c.digest == digest)
    return connection.execute(found).first() is not None


def lock_map_file(connection: Connection, digest: str) -> StoredMapFile | None:
    """A file that no other transaction can use until this one ends; None if there is none."""
    row = connection.execute(
        select(MAP_FILES).where(owned(connection, MAP_FILES), MAP_FILES.c.digest == digest).with_for_update()
    ).one_or_none()
    return None if row is None else StoredMapFile(row.digest, row.size_bytes)


def delete_map_file(connection: Connection, digest: str) -> None:
    """Delete a file; its bytes are collected."""
    connection.execute(delete(MAP_FILES).where(owned(connection, MAP_FILES), MAP_FILES.c.digest == digest))
