"""What a tenant uses of its limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, text, update

from auditcore_service.store.tables import AUDITS, DAILY_PASSES, IMAGE_BATCHES, MAP_FILES
from auditcore_service.store.transitions import TERMINAL

_USAGE_LOCK = 0x757365  # "use": the first of the two numbers of the advisory lock; the second stands for the tenant

_STORED: Final = (IMAGE_BATCHES, MAP_FILES)
"""Tables whose column `size_bytes` counts as stored."""


def lock_usage(connection: Connection, tenant: str) -> None:
    """Exclude all other transactions that use up limits of a tenant, until this one ends.

    Without it, two transactions would each find the last place free, and both take it. In PostgreSQL this is an
    advisory lock, since a tenant needs no row; take it before the lock of the event log (`lock_log`). SQLite has only
    one write transaction at a time.
    """
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:purpose, hashtext(:tenant))")
        connection.execute(lock, {"purpose": _USAGE_LOCK, "tenant": tenant})


def running_audits(connection: Connection, tenant: str) -> int:
    """Return the number of jobs that have not ended: they wait, run or are being cancelled."""
    query = select(func.count()).where(AUDITS.c.tenant == tenant, AUDITS.c.state.not_in(TERMINAL))
    return connection.execute(query).scalar_one()


def stored_bytes(connection: Connection, tenant: str) -> int:
    """Return the bytes of image batches and maps. An image in two batches counts twice."""
    sums = [
        connection.execute(select(func.sum(table.c.size_bytes)).where(table.c.tenant == tenant)).scalar_one()
        for table in _STORED
    ]
    return sum(int(one or 0) for one in sums)


def day_of(now: float) -> str:
    """Return the day in UTC, such as `2026-11-27`."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def submitted_passes(connection: Connection, tenant: str, *, now: float) -> int:
    """Return the estimated forward passes of what was submitted since midnight UTC, also of what was deleted since."""
    query = select(DAILY_PASSES.c.passes).where(DAILY_PASSES.c.tenant == tenant, DAILY_PASSES.c.day == day_of(now))
    return connection.execute(query).scalar_one_or_none() or 0


def add_passes(connection: Connection, tenant: str, passes: int, *, now: float) -> None:
    """Count the passes of what is being submitted; the transaction holds the lock of `lock_usage`."""
    day = day_of(now)
    changed = connection.execute(
        update(DAILY_PASSES)
        .where(DAILY_PASSES.c.tenant == tenant, DAILY_PASSES.c.day == day)
        .values(passes=DAILY_PASSES.c.passes + passes)
    ).rowcount
    if not changed:
        connection.execute(delete(DAILY_PASSES).where(DAILY_PASSES.c.tenant == tenant, DAILY_PASSES.c.day < day))
        connection.execute(insert(DAILY_PASSES).values(tenant=tenant, day=day, passes=passes))
