"""Idempotency-Key: the same key and body mean the same audit, however often it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.tables import IDEMPOTENCY_KEYS

KEY_LIFETIME_S = 24 * 3600.0
"""A key is forgotten after a day; published in the API description."""

RESERVATION_S = 60.0
"""A reservation without an audit is void after this time: its request died. Gateways of releases before commit one
before they answer; now a key and its audit are one transaction."""


@final
@dataclass(frozen=True)
class Reservation:
    """What a key stands for.

    Attributes:
        state: `new`: go on, the key is yours. `replay`: `audit_id` was the answer. `in_flight`: the first request is
            still being answered. `reused`: the key belongs to another body.
    """

    state: Literal["new", "replay", "in_flight", "reused"]
    audit_id: str | None = None


def reserve_key(connection: Connection, key: str, fingerprint: str, *, now: float) -> Reservation:
    """Take a key, or find out what it stands for."""
    connection.execute(
        delete(IDEMPOTENCY_KEYS).where(
            IDEMPOTENCY_KEYS.c.key == key,
            (IDEMPOTENCY_KEYS.c.created_at < now - KEY_LIFETIME_S)
            | (IDEMPOTENCY_KEYS.c.audit_id.is_(None) & (IDEMPOTENCY_KEYS.c.created_at < now - RESERVATION_S)),
        )
    )
    try:
        with connection.begin_nested():
            connection.execute(insert(IDEMPOTENCY_KEYS).values(key=key, fingerprint=fingerprint, created_at=now))
    except IntegrityError:
        return find_key(connection, key, fingerprint, now=now)
    return Reservation("new")


def find_key(connection: Connection, key: str, fingerprint: str, *, now: float) -> Reservation:
    """What a key stands for, without taking it."""
    row = connection.execute(select(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.key == key)).one_or_none()
    lifetime = RESERVATION_S if row is not None and row.audit_id is None else KEY_LIFETIME_S
    if row is None or row.created_at < now - lifetime:
        return Reservation("new")
    if row.fingerprint != fingerprint:
        return Reservation("reused")
    return Reservation("in_flight") if row.audit_id is None else Reservation("replay", row.audit_id)


def bind_key(connection: Connection, key: str, audit_id: str) -> None:
    """Let a reserved key stand for an audit, in the transaction that writes the audit."""
    connection.execute(update(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.key == key).values(audit_id=audit_id))


def forget_keys(connection: Connection, *, now: float) -> int:
    """Delete keys past their lifetime; the answer counts them."""
    return connection.execute(
        delete(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.created_at < now - KEY_LIFETIME_S)
    ).rowcount
