"""The event log: appended in the transaction of what it records, and chained by hashes.

Nothing in the service changes or removes a row of it. `auditcore.evidence.event_log` says what a chain is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text

from auditcore.contracts.canonical_json import canonical_json
from auditcore.evidence.event_log import START, EntryKind, LogEntry, LogHead, chained
from auditcore_service.store.tables import LOG_ENTRIES
from auditcore_service.store.tenancy import owner
from auditcore_service.timestamps import rfc3339

_APPEND_LOCK = 0x6C6F67  # "log": the first of the two numbers of the advisory lock; the second stands for the tenant


def append_entry(
    connection: Connection,
    kind: EntryKind,
    subject: str,
    data: dict[str, Any],
    *,
    now: float,
    principal: str | None = None,
    tenant: str | None = None,
) -> LogEntry:
    """Append an entry; it exists if and only if the transaction commits.

    A transaction locks audits and shards before it appends, because appending takes the lock of the log: with one order
    of locks there is no deadlock.

    Args:
        connection: A write transaction.
        kind: What happened.
        subject: What it happened to.
        data: More about it, as JSON.
        now: Seconds since 1970.
        principal: Who caused it; None for the service itself, and where no name was given.
        tenant: Whose log it is; None for the tenant of the transaction.
    """
    if tenant is None:
        tenant = owner(connection)
    lock_log(connection, tenant=tenant)
    last = log_head(connection, now=now, tenant=tenant)
    entry = chained(
        tenant=tenant,
        sequence=last.sequence + 1,
        time=rfc3339(now),
        principal=principal,
        kind=kind,
        subject=subject,
        data=data,
        previous=last.hash,
    )
    values = entry.model_dump() | {"data": canonical_json(entry.data).decode()}
    connection.execute(insert(LOG_ENTRIES).values(**values))
    return entry


def lock_log(connection: Connection, *, tenant: str) -> None:
    """Exclude all other transactions that append to a log, until this one ends.

    In PostgreSQL this is an advisory lock. Without it, two transactions would append to the same head, and the primary
    key would make one of them fail. SQLite has only one write transaction at a time.
    """
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:purpose, hashtext(:tenant))")
        connection.execute(lock, {"purpose": _APPEND_LOCK, "tenant": tenant})


def log_head(connection: Connection, *, now: float, tenant: str) -> LogHead:
    """The last entry of a log, with the time at which it was asked for."""
    row = connection.execute(
        select(LOG_ENTRIES.c.sequence, LOG_ENTRIES.c.hash)
        .where(LOG_ENTRIES.c.tenant == tenant)
        .order_by(LOG_ENTRIES.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    sequence, digest = (0, START) if row is None else (row.sequence, row.hash)
    return LogHead(tenant=tenant, sequence=sequence, hash=digest, time=rfc3339(now))


def read_log(connection: Connection, *, after: int = 0, limit: int) -> tuple[LogEntry, ...]:
    """Entries of the tenant's log with a number above `after`, oldest first."""
    rows = connection.execute(
        select(LOG_ENTRIES)
        .where(LOG_ENTRIES.c.tenant == owner(connection), LOG_ENTRIES.c.sequence > after)
        .order_by(LOG_ENTRIES.c.sequence)
        .limit(limit)
    )
    return tuple(_entry(row) for row in rows)


def entries_about(connection: Connection, subject: str, kind: EntryKind) -> Iterator[LogEntry]:
    """Entries of the tenant's log of one kind about one subject, oldest first."""
    rows = connection.execute(
        select(LOG_ENTRIES)
        .where(LOG_ENTRIES.c.tenant == owner(connection), LOG_ENTRIES.c.subject == subject, LOG_ENTRIES.c.kind == kind)
        .order_by(LOG_ENTRIES.c.sequence)
    )
    return (_entry(row) for row in rows)


def last_entry_about(connection: Connection, subject: str, kind: EntryKind) -> LogEntry | None:
    """The newest entry of the tenant's log of one kind about one subject; None if there is none."""
    row = connection.execute(
        select(LOG_ENTRIES)
        .where(LOG_ENTRIES.c.tenant == owner(connection), LOG_ENTRIES.c.subject == subject, LOG_ENTRIES.c.kind == kind)
        .order_by(LOG_ENTRIES.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _entry(row)


def logged_tenants(connection: Connection) -> tuple[str, ...]:
    """Every tenant that has a log, in order of their names."""
    return tuple(connection.execute(select(LOG_ENTRIES.c.tenant).distinct().order_by(LOG_ENTRIES.c.tenant)).scalars())


def _entry(row: Row[Any]) -> LogEntry:
    return LogEntry.model_validate({**row._mapping, "data": _data(row.data)})  # noqa: SLF001 - the documented accessor, in spite of its underscore


def _data(text: str) -> dict[str, Any]:
    """What the data of a row say; of text that this module did not write, the text, whose hash is another one."""
    try:
        data: dict[str, Any] = json.loads(text)
        written = isinstance(data, dict) and canonical_json(data).decode() == text
    except ValueError:
        written = False
    return data if written else {"unreadable": text}
