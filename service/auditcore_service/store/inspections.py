"""Inspections of models: requested by gateways, answered by workers, kept for an hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.records import Failure
from auditcore_service.store.tables import INSPECTIONS

KEPT_S = 3600.0
"""An answer is used again for an hour: a file behind a reference that cannot be pinned may change."""


@final
@dataclass(frozen=True)
class StoredInspection:
    """An inspection as stored.

    Attributes:
        request: What to look at, JSON.
        reference: The model as it was resolved, JSON.
        queued_at: When it was last announced to the workers, seconds since 1970.
        answer: What was found, JSON; None until a worker has looked.
        failure: Why the model cannot be loaded, if so.
    """

    request: str
    reference: str
    queued_at: float
    answer: str | None
    failure: Failure | None


def find_inspection(connection: Connection, digest: str) -> StoredInspection | None:
    """Return the inspection with this digest, or None if there is none."""
    row = connection.execute(select(INSPECTIONS).where(INSPECTIONS.c.digest == digest)).one_or_none()
    if row is None:
        return None
    failure = None if row.error_code is None else Failure(row.error_code, row.error_message, row.error_field)
    return StoredInspection(row.request, row.reference, row.queued_at, row.answer, failure)


def ask_for_inspection(connection: Connection, digest: str, *, request: str, reference: str, now: float) -> None:
    """Insert a request for an inspection, without an answer."""
    connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.digest == digest))
    try:
        with connection.begin_nested():
            connection.execute(
                insert(INSPECTIONS).values(digest=digest, request=request, reference=reference, queued_at=now)
            )
    except IntegrityError:
        # on PostgreSQL another gateway may have inserted the same request at this moment
        return


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


def forget_inspections(connection: Connection, *, now: float) -> int:
    """Delete inspections that were not asked for within the last hour; returns how many."""
    return connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.queued_at < now - KEPT_S)).rowcount
