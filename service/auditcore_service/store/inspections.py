"""Inspections of models: requested by gateways, answered by workers, kept for an hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, and_, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.records import Failure
from auditcore_service.store.tables import INSPECTIONS
from auditcore_service.store.tenancy import owned, owner

KEPT_S = 3600.0
"""An answer is used again for an hour: a file behind a reference that cannot be pinned may change."""

_WAITING = and_(INSPECTIONS.c.answer.is_(None), INSPECTIONS.c.error_code.is_(None), INSPECTIONS.c.claimed_at.is_(None))


@final
@dataclass(frozen=True)
class StoredInspection:
    """An inspection as stored.

    Attributes:
        tenant: Who asks.
        request: What to look at, JSON.
        reference: The model as it was resolved, JSON.
        queued_at: When it was last announced to the workers, seconds since 1970.
        answer: What was found, JSON; None until a worker has looked.
        failure: Why the model cannot be loaded, if so.
    """

    tenant: str
    request: str
    reference: str
    queued_at: float
    answer: str | None
    failure: Failure | None


def find_inspection(connection: Connection, digest: str) -> StoredInspection | None:
    """Return the inspection with this digest, or None if there is none."""
    row = connection.execute(
        select(INSPECTIONS).where(INSPECTIONS.c.digest == digest, owned(connection, INSPECTIONS))
    ).one_or_none()
    if row is None:
        return None
    failure = None if row.error_code is None else Failure(row.error_code, row.error_message, row.error_field)
    return StoredInspection(row.tenant, row.request, row.reference, row.queued_at, row.answer, failure)


def ask_for_inspection(connection: Connection, digest: str, *, request: str, reference: str, now: float) -> None:
    """Insert a request for an inspection, without an answer."""
    connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.digest == digest))
    try:
        with connection.begin_nested():
            connection.execute(
                insert(INSPECTIONS).values(
                    digest=digest, tenant=owner(connection), request=request, reference=reference, queued_at=now
                )
            )
    except IntegrityError:
        # on PostgreSQL another gateway may have inserted the same request at this moment
        return


def claim_inspection(connection: Connection, *, now: float) -> str | None:
    """Take the inspection that has waited longest. Only workers without Celery claim: its messages come once.

    An inspection is claimed once for each time it is asked for, so that a model that kills its worker does not kill
    them one after the other.

    Args:
        connection: A writing transaction.
        now: Seconds since 1970.

    Returns:
        Its digest; None when no inspection waits.
    """
    digest = connection.execute(
        select(INSPECTIONS.c.digest).where(_WAITING).order_by(INSPECTIONS.c.queued_at).limit(1)
    ).scalar_one_or_none()
    if digest is None:
        return None
    claimed = connection.execute(
        # on PostgreSQL another worker may have claimed it since
        update(INSPECTIONS).where(INSPECTIONS.c.digest == digest, _WAITING).values(claimed_at=now)
    ).rowcount
    return digest if claimed else None


def answer_inspection(
    connection: Connection, digest: str, *, answer: str | None, failure: Failure | None = None
) -> None:
    """Keep what was found; does nothing if no request waits for it any more."""
    connection.execute(
        update(INSPECTIONS)
        .where(INSPECTIONS.c.digest == digest)
        .values(
            answer=answer,
            error_code=None if failure is None else failure.code,
            error_message=None if failure is None else failure.message,
            error_field=None if failure is None else failure.field,
        )
    )


def forget_inspection(connection: Connection, digest: str) -> None:
    """Delete an inspection, so that the next request starts a new one."""
    connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.digest == digest))


def is_inspection_waiting(connection: Connection) -> bool:
    """Whether `claim_inspection` would find one; this reads only."""
    return bool(connection.execute(select(exists().where(_WAITING))).scalar_one())


def forget_inspections(connection: Connection, *, now: float) -> int:
    """Delete inspections that were not asked for within the last hour; returns how many."""
    return connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.queued_at < now - KEPT_S)).rowcount
