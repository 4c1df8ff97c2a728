"""How long the objects of a tenant are kept, and which of them are due."""

from __future__ import annotations

from sqlalchemy import Connection, exists, func, select, union

from auditcore_service.store.audit_inputs import InputKind
from auditcore_service.store.tables import AUDIT_INPUTS, AUDITS, IMAGE_BATCHES, MAP_FILES
from auditcore_service.store.tenancy import owned
from auditcore_service.store.tenants import NO_LIMIT, find_tenant
from auditcore_service.store.transitions import TERMINAL, JobKind

_TABLES = {"batch": IMAGE_BATCHES, "maps": MAP_FILES}


def owners(connection: Connection) -> tuple[str, ...]:
    """Every tenant that has audits, image batches or files of maps."""
    tables = (AUDITS, IMAGE_BATCHES, MAP_FILES)
    return tuple(sorted(connection.execute(union(*(select(table.c.tenant) for table in tables))).scalars()))


def due_audits(connection: Connection, *, before: float, limit: int, kind: JobKind = "audit") -> tuple[str, ...]:
    """Ids of jobs of a kind that ended before a time, oldest first."""
    return tuple(
        connection.execute(
            select(AUDITS.c.id)
            .where(
                owned(connection, AUDITS),
                AUDITS.c.kind == kind,
                AUDITS.c.state.in_(TERMINAL),
                AUDITS.c.finished_at < before,
            )
            .order_by(AUDITS.c.finished_at, AUDITS.c.id)
            .limit(limit)
        ).scalars()
    )


def due_uploads(connection: Connection, kind: InputKind, *, before: float, limit: int) -> tuple[str, ...]:
    """Digests of uploads that no audit names, and that were last uploaded or named before a time.

    Args:
        connection: A transaction of the tenant.
        kind: `batch` or `maps`.
        before: Seconds since 1970.
        limit: Largest number to return.
    """
    table = _TABLES[kind]
    named = exists().where(
        AUDIT_INPUTS.c.tenant == table.c.tenant, AUDIT_INPUTS.c.kind == kind, AUDIT_INPUTS.c.digest == table.c.digest
    )
    return tuple(
        connection.execute(
            select(table.c.digest)
            .where(owned(connection, table), func.coalesce(table.c.used_at, table.c.created_at) < before, ~named)
            .order_by(table.c.digest)
            .limit(limit)
        ).scalars()
    )


def retention_of(connection: Connection, tenant: str, *, default: int | None) -> int | None:
    """Days that the objects of a tenant are kept; None for ever.

    Args:
        connection: A transaction of the tenant.
        tenant: Its name.
        default: The setting of the deployment, for a tenant that has none of its own.
    """
    known = find_tenant(connection, tenant)
    if known is None or known.retention_days is None:
        return default
    return None if known.retention_days == NO_LIMIT else known.retention_days
