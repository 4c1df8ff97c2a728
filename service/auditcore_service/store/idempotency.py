"""Idempotency keys: repeated requests with the same key and body create one audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.tables import IDEMPOTENCY_KEYS
from auditcore_service.store.tenancy import owned, owner

KEY_LIFETIME_S = 24 * 3600.0
"""A key is deleted after a day; this is documented in the API description."""

RESERVATION_S = 60.0
"""A reservation without an audit expires after this time, because its request must have died. Only gateways of earlier
releases commit such reservations; now a key and its audit are one transaction."""


@final
@dataclass(frozen=True)
class Reservation:
    """The state of a key.

    Attributes:
        state: `new`: the key is free or was just reserved. `replay`: the key belongs to the audit `audit_id`.
            `in_flight`: the first request with this key is still running. `reused`: the key was used with a different
            body.
        audit_id: The audit, for `replay`.
    """

    state: Literal["new", "replay", "in_flight", "reused"]
    audit_id: str | None = None


def reserve_key(connection: Connection, key: str, fingerprint: str, *, now: float) -> Reservation:
    """Reserve a key, or return its state if it exists."""
    connection.execute(
        delete(IDEMPOTENCY_KEYS).where(
            IDEMPOTENCY_KEYS.c.key == key,
            owned(connection, IDEMPOTENCY_KEYS),
            (IDEMPOTENCY_KEYS.c.created_at < now - KEY_LIFETIME_S)
            | (IDEMPOTENCY_KEYS.c.audit_id.is_(None) & (IDEMPOTENCY_KEYS.c.created_at < now - RESERVATION_S)),
        )
    )
    try:
        with connection.begin_nested():
            connection.execute(
                insert(IDEMPOTENCY_KEYS).values(
                    tenant=owner(connection), key=key, fingerprint=fingerprint, created_at=now
                )
            )
    except IntegrityError:
        return find_key(connection, key, fingerprint, now=now)
    return Reservation("new")


def find_key(connection: Connection, key: str, fingerprint: str, *, now: float) -> Reservation:
    """Return the state of a key without reserving it."""
    row = connection.execute(
        select(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.key == key, owned(connection, IDEMPOTENCY_KEYS))
    ).one_or_none()
    lifetime = RESERVATION_S if row is not None and row.audit_id is None else KEY_LIFETIME_S
    if row is None or row.created_at < now - lifetime:
        return Reservation("new")
    if row.fingerprint != fingerprint:
        return Reservation("reused")
    return Reservation("in_flight") if row.audit_id is None else Reservation("replay", row.audit_id)


def bind_key(connection: Connection, key: str, audit_id: str) -> None:
    """Assign a reserved key to an audit, in the transaction that inserts the audit."""
    mine = (IDEMPOTENCY_KEYS.c.key == key) & owned(connection, IDEMPOTENCY_KEYS)
    connection.execute(update(IDEMPOTENCY_KEYS).where(mine).values(audit_id=audit_id))


def forget_keys(connection: Connection, *, now: float) -> int:
    """Delete keys past their lifetime; return how many."""
    return connection.execute(
        delete(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.created_at < now - KEY_LIFETIME_S)
    ).rowcount
