"""Signed registrations of audits, and the evidence of their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, insert, select, update

from auditcore.contracts.canonical_json import sha256
from auditcore_service.store.audits import lock_audit
from auditcore_service.store.tables import REGISTRATIONS, SIGNING_KEYS
from auditcore_service.store.tenancy import owned, owner


@final
@dataclass(frozen=True)
class StoredRegistration:
    """What was signed when an audit was submitted, and when its result was.

    Attributes:
        envelope: The signed registration: a DSSE envelope.
        evidence: The signed statement about the report; None if nobody has asked for it yet.
    """

    envelope: bytes
    evidence: bytes | None


@final
@dataclass(frozen=True)
class StoredKey:
    """A public key of the deployment.

    Attributes:
        key_id: Its id.
        pem: The key in PEM.
        first_used_at: When a gateway first started with it, seconds since 1970.
    """

    key_id: str
    pem: str
    first_used_at: float


def insert_registration(connection: Connection, audit_id: str, envelope: bytes, *, now: float) -> None:
    """Store the signed registration of an audit; there is one for each."""
    connection.execute(
        insert(REGISTRATIONS).values(
            audit_id=audit_id,
            tenant=owner(connection),
            envelope=envelope.decode(),
            digest=sha256(envelope),
            created_at=now,
        )
    )


def find_registration(connection: Connection, audit_id: str) -> StoredRegistration | None:
    """The registration of an audit; None if it was submitted without a signing key."""
    row = connection.execute(
        select(REGISTRATIONS.c.envelope, REGISTRATIONS.c.evidence).where(
            REGISTRATIONS.c.audit_id == audit_id, owned(connection, REGISTRATIONS)
        )
    ).one_or_none()
    if row is None:
        return None
    return StoredRegistration(row.envelope.encode(), None if row.evidence is None else row.evidence.encode())


def keep_evidence(connection: Connection, audit_id: str, evidence: bytes) -> bool:
    """Store the evidence of an audit unless it has some.

    Returns:
        Whether it was stored. Evidence never changes; another gateway may have been first.
    """
    lock_audit(connection, audit_id)
    stored = connection.execute(
        update(REGISTRATIONS)
        .where(
            REGISTRATIONS.c.audit_id == audit_id, owned(connection, REGISTRATIONS), REGISTRATIONS.c.evidence.is_(None)
        )
        .values(evidence=evidence.decode())
    ).rowcount
    return bool(stored)


def insert_key(connection: Connection, key_id: str, *, pem: str, now: float) -> bool:
    """Store a public key unless it is known; return whether it is new. The caller must hold the lock of the log."""
    if connection.execute(select(SIGNING_KEYS.c.key_id).where(SIGNING_KEYS.c.key_id == key_id)).first() is not None:
        return False
    connection.execute(insert(SIGNING_KEYS).values(key_id=key_id, public_key=pem, first_used_at=now))
    return True


def list_keys(connection: Connection) -> tuple[StoredKey, ...]:
    """All public keys that a gateway ever signed with, newest first."""
    rows = connection.execute(select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.first_used_at.desc(), SIGNING_KEYS.c.key_id))
    return tuple(StoredKey(row.key_id, row.public_key, row.first_used_at) for row in rows)
