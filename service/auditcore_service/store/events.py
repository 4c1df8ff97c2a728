"""Events of an audit, in order, so that a client that reconnects can catch up."""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, insert, select

from auditcore_service.store.records import Event
from auditcore_service.store.tables import EVENTS


def append_event(connection: Connection, audit_id: str, kind: str, data: dict[str, object], *, now: float) -> None:
    """Append an event. The caller must hold the audit's lock, so that ids and commits have the same order."""
    connection.execute(
        insert(EVENTS).values(audit_id=audit_id, kind=kind, data=json.dumps(data, sort_keys=True), created_at=now)
    )


def events_after(connection: Connection, audit_id: str, *, after: int, limit: int = 500) -> tuple[Event, ...]:
    """Return events of an audit with an id above `after`, oldest first."""
    rows = connection.execute(
        select(EVENTS.c.id, EVENTS.c.kind, EVENTS.c.data)
        .where(EVENTS.c.audit_id == audit_id, EVENTS.c.id > after)
        .order_by(EVENTS.c.id)
        .limit(limit)
    )
    return tuple(Event(row.id, row.kind, row.data) for row in rows)


def newest_event(connection: Connection) -> int:
    """Return the highest id of all events; 0 if there is none."""
    return connection.execute(select(func.max(EVENTS.c.id))).scalar_one_or_none() or 0


def audits_with_events(connection: Connection, *, after: int) -> tuple[frozenset[str], int]:
    """Return the audits that have events with an id above `after`, and the highest id of all events."""
    # before the rest, so that no event is skipped by the next look
    newest = newest_event(connection)
    changed = connection.execute(select(EVENTS.c.audit_id).where(EVENTS.c.id > after).distinct()).scalars()
    return frozenset(changed), newest
