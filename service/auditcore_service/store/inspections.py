"""Inspections of models: requested by gateways, answered by workers, kept for an hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.records import Failure
from auditcore_service.store.tables import INSPECTIONS

KEPT_S = 3600.0
"""An answer is reused for an hour; not longer, because a reference without a digest may point to a changed file."""


@final
@dataclass(frozen=True)
class StoredInspection:
    """An inspection as stored.

    Attributes:
        request: The request, JSON.
        reference: The resolved reference of the model, JSON.
        queued_at: Time of the last message to workers, seconds since 1970.
        answer: The answer, JSON; None while there is none.
        failure: Why the model cannot be loaded; None if it can.
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
    """Store the answer of an inspection; does nothing if the request was deleted."""
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
    """Delete inspections that were not requested within the last hour; return how many."""
    return connection.execute(delete(INSPECTIONS).where(INSPECTIONS.c.queued_at < now - KEPT_S)).rowcount
