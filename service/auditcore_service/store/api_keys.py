"""Stored API keys. Of a secret only the digest is stored, and no row is ever removed: the event log names keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.principals import SCOPES, Scope
from auditcore_service.store.pages import after_position
from auditcore_service.store.tables import API_KEYS
from auditcore_service.store.tenancy import owned, owner


@final
@dataclass(frozen=True)
class ApiKey:
    """A key as stored. Times are seconds since 1970.

    Attributes:
        id: Its public id, a part of every secret.
        tenant: Whose it is.
        name: What people call it; never reused within a tenant.
        scopes: What it may do.
        secret_digest: sha256 of the secret.
        previous_digest: sha256 of the secret before the last rotation; None if there was none.
        previous_until: Until when the secret before is accepted.
        created_at: When it was made.
        created_by: Who made it.
        expires_at: When it ends; None for a key without an end.
        rotated_at: When it got its present secret, if that is not its first.
        revoked_at: When it was revoked; None for one that was not.
        last_used_at: When it was last used, to about a minute; None if never.
    """

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    secret_digest: str
    previous_digest: str | None
    previous_until: float | None
    created_at: float
    created_by: str | None
    expires_at: float | None
    rotated_at: float | None
    revoked_at: float | None
    last_used_at: float | None


def insert_api_key(
    connection: Connection,
    *,
    key_id: str,
    name: str,
    scopes: tuple[Scope, ...],
    secret_digest: str,
    created_by: str | None,
    expires_at: float | None,
    now: float,
) -> ApiKey | None:
    """Store a new key of the tenant of the transaction.

    Returns:
        The key; None if the tenant has or had another one with this name.
    """
    values = {
        "id": key_id,
        "tenant": owner(connection),
        "name": name,
        "scopes": " ".join(scopes),
        "secret_digest": secret_digest,
        "created_at": now,
        "created_by": created_by,
        "expires_at": expires_at,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(API_KEYS).values(**values))
    except IntegrityError:
        return None
    return find_api_key(connection, key_id)


def find_api_key(connection: Connection, key_id: str) -> ApiKey | None:
    """The key with this id, if the transaction may see it."""
    row = connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id, owned(connection, API_KEYS))).one_or_none()
    return None if row is None else _key(row)


def lock_api_key(connection: Connection, key_id: str) -> ApiKey | None:
    """The same, and no other transaction may change it until this one ends."""
    row = connection.execute(
        select(API_KEYS).where(API_KEYS.c.id == key_id, owned(connection, API_KEYS)).with_for_update()
    ).one_or_none()
    return None if row is None else _key(row)


def list_api_keys(connection: Connection, *, after: tuple[float, str] | None, limit: int) -> tuple[ApiKey, ...]:
    """Keys that the transaction may see, newest first.

    Args:
        connection: An open transaction.
        after: (created_at, id) of the last key on the previous page.
        limit: Largest number of keys to return.
    """
    query = select(API_KEYS).where(owned(connection, API_KEYS))
    query = query.order_by(API_KEYS.c.created_at.desc(), API_KEYS.c.id.desc()).limit(limit)
    query = query.where(after_position(API_KEYS.c.created_at, API_KEYS.c.id, after))
    return tuple(_key(row) for row in connection.execute(query))


def has_usable_api_key(connection: Connection, *, now: float) -> bool:
    """Whether the transaction sees a key that is neither revoked nor expired."""
    found = select(API_KEYS.c.id).where(
        owned(connection, API_KEYS),
        API_KEYS.c.revoked_at.is_(None),
        or_(API_KEYS.c.expires_at.is_(None), API_KEYS.c.expires_at > now),
    )
    return connection.execute(found.limit(1)).first() is not None


def replace_secret(
    connection: Connection,
    key: ApiKey,
    *,
    secret_digest: str,
    previous_until: float,
    expires_at: float | None,
    now: float,
) -> None:
    """Give a key another secret; the one before is accepted until `previous_until`."""
    connection.execute(
        update(API_KEYS)
        .where(API_KEYS.c.id == key.id, owned(connection, API_KEYS))
        .values(
            secret_digest=secret_digest,
            previous_digest=key.secret_digest,
            previous_until=previous_until,
            expires_at=expires_at,
            rotated_at=now,
        )
    )


def revoke_api_key(connection: Connection, key_id: str, *, now: float) -> None:
    """Revoke a key for good."""
    connection.execute(
        update(API_KEYS).where(API_KEYS.c.id == key_id, owned(connection, API_KEYS)).values(revoked_at=now)
    )


def note_uses(connection: Connection, uses: Mapping[str, float]) -> None:
    """Store when keys were last used; an earlier time than the stored one changes nothing.

    Args:
        connection: A write transaction.
        uses: Id of a key -> seconds since 1970.
    """
    # in one order, so that two gateways never wait for each other
    for key_id, used_at in sorted(uses.items()):
        connection.execute(
            update(API_KEYS)
            .where(
                API_KEYS.c.id == key_id,
                owned(connection, API_KEYS),
                or_(API_KEYS.c.last_used_at.is_(None), API_KEYS.c.last_used_at < used_at),
            )
            .values(last_used_at=used_at)
        )


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    names = row.scopes.split()
    # a release that knows a scope no longer, or not yet, grants nothing by it
    scopes = tuple(scope for scope in SCOPES if scope in names)
    return ApiKey(**{**row._mapping, "scopes": scopes})  # noqa: SLF001 - the documented accessor, in spite of its underscore
