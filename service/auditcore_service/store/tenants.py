"""Tenants with limits of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from sqlalchemy import Connection, Row, insert, select, update

from auditcore_service.store.tables import TENANTS

NO_LIMIT: Final = -1
"""Value of a setting that lifts the deployment's limit for a tenant; None leaves that limit in force."""

TenantSetting = Literal["requests_per_minute", "running_audits", "passes_per_day", "stored_bytes", "retention_days"]
"""One setting of a tenant; it has the name of its column."""


@final
@dataclass(frozen=True)
class Tenant:
    """A tenant, and where it differs from the deployment.

    Each setting is a number, `NO_LIMIT`, or None for the default of the deployment.

    Attributes:
        name: Its name.
        created_at: Seconds since 1970.
        requests_per_minute: Requests in a minute.
        running_audits: Audits that have not ended.
        passes_per_day: Estimated forward passes of the audits submitted in a day.
        stored_bytes: Bytes of image batches and maps.
        retention_days: Days after which what is finished is deleted; `NO_LIMIT` keeps it for ever.
    """

    name: str
    created_at: float
    requests_per_minute: int | None
    running_audits: int | None
    passes_per_day: int | None
    stored_bytes: int | None
    retention_days: int | None


def find_tenant(connection: Connection, name: str) -> Tenant | None:
    """Return a tenant, or None if it has no row and so has the defaults of the deployment."""
    row = connection.execute(select(TENANTS).where(TENANTS.c.name == name)).one_or_none()
    return None if row is None else _tenant(row)


def list_tenants(connection: Connection) -> tuple[Tenant, ...]:
    """Return all tenants that have a row, by name."""
    return tuple(_tenant(row) for row in connection.execute(select(TENANTS).order_by(TENANTS.c.name)))


def set_tenant(
    connection: Connection, name: str, settings: Mapping[TenantSetting, int | None], *, now: float
) -> Tenant:
    """Change settings of a tenant, which is created if it has no row; other settings stay as they are.

    Args:
        connection: A write transaction.
        name: Name of the tenant.
        settings: New values; see `Tenant`.
        now: Seconds since 1970.
    """
    known = connection.execute(select(TENANTS.c.name).where(TENANTS.c.name == name).with_for_update()).one_or_none()
    if known is None:
        connection.execute(insert(TENANTS).values({"name": name, "created_at": now, **settings}))
    elif settings:
        connection.execute(update(TENANTS).where(TENANTS.c.name == name).values({**settings}))
    return _tenant(connection.execute(select(TENANTS).where(TENANTS.c.name == name)).one())


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(
        name=row.name,
        created_at=row.created_at,
        requests_per_minute=row.requests_per_minute,
        running_audits=row.running_audits,
        passes_per_day=row.passes_per_day,
        stored_bytes=row.stored_bytes,
        retention_days=row.retention_days,
    )
