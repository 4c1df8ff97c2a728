"""Stored policies. A document never changes, and is never removed: audits name it by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.pages import after_position
from auditcore_service.store.tables import POLICIES
from auditcore_service.store.tenancy import owned, owner


@final
@dataclass(frozen=True)
class StoredPolicy:
    """A policy as stored.

    Attributes:
        digest: sha256 of the document.
        document: The document in canonical JSON.
        created_at: When it was stored, seconds since 1970.
    """

    digest: str
    document: str
    created_at: float


def insert_policy(connection: Connection, *, digest: str, name: str, version: str, document: str, now: float) -> bool:
    """Store a policy.

    Returns:
        Whether it was stored. If not, this document or another one with its name and version is stored already.
    """
    values = {"digest": digest, "tenant": owner(connection), "name": name, "version": version, "document": document}
    try:
        with connection.begin_nested():
            connection.execute(insert(POLICIES).values(**values, created_at=now))
    except IntegrityError:
        return False
    return True


def find_policy(connection: Connection, digest: str) -> StoredPolicy | None:
    """Return the policy with this digest, or None if there is none."""
    row = connection.execute(
        select(POLICIES).where(POLICIES.c.digest == digest, owned(connection, POLICIES))
    ).one_or_none()
    return None if row is None else _policy(row)


def find_named_policy(connection: Connection, name: str, version: str) -> StoredPolicy | None:
    """Return the policy with this name and version, or None if there is none."""
    row = connection.execute(
        select(POLICIES).where(owned(connection, POLICIES), POLICIES.c.name == name, POLICIES.c.version == version)
    ).one_or_none()
    return None if row is None else _policy(row)


def list_policy_labels(connection: Connection, name: str) -> tuple[str, ...]:
    """Return name and version, such as `ours@1.0.0`, of every policy with this name, oldest first."""
    query = select(POLICIES.c.version).where(owned(connection, POLICIES), POLICIES.c.name == name)
    versions = connection.execute(query.order_by(POLICIES.c.created_at)).scalars()
    return tuple(f"{name}@{version}" for version in versions)


def list_policies(connection: Connection, *, after: tuple[float, str] | None, limit: int) -> tuple[StoredPolicy, ...]:
    """Return policies, newest first.

    Args:
        connection: An open transaction.
        after: (created_at, digest) of the last policy on the previous page.
        limit: Largest number of policies to return.
    """
    query = select(POLICIES).where(owned(connection, POLICIES))
    query = query.order_by(POLICIES.c.created_at.desc(), POLICIES.c.digest.desc()).limit(limit)
    query = query.where(after_position(POLICIES.c.created_at, POLICIES.c.digest, after))
    return tuple(_policy(row) for row in connection.execute(query))


def _policy(row: Row[tuple[object, ...]]) -> StoredPolicy:
    return StoredPolicy(digest=row.digest, document=row.document, created_at=row.created_at)
