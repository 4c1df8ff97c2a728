"""Whose rows a transaction may see and write."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, true

EVERY_TENANT: Final = "*"
"""Of a transaction of the service itself, such as a worker's or the sweeper's. No tenant can have this name."""

TENANT_OPTION: Final = "auditcore_tenant"
"""Execution option of a connection that holds the tenant of its transaction."""


def tenant_of(connection: Connection) -> str:
    """The tenant of a transaction, or `EVERY_TENANT`."""
    tenant: str = connection.get_execution_options().get(TENANT_OPTION, EVERY_TENANT)
    return tenant


def owned(connection: Connection, table: Table) -> ColumnElement[bool]:
    """The condition that a row belongs to the tenant of the transaction; true in one of the service itself.

    Args:
        connection: An open transaction.
        table: A table with a column `tenant`.
    """
    tenant = tenant_of(connection)
    return true() if tenant == EVERY_TENANT else table.c.tenant == tenant


def owner(connection: Connection) -> str:
    """The tenant to write into a new row.

    Raises:
        RuntimeError: The transaction is one of the service itself, which owns nothing; a bug.
    """
    tenant = tenant_of(connection)
    if tenant == EVERY_TENANT:
        msg = "a transaction of the service itself owns no rows; open it for a tenant"
        raise RuntimeError(msg)
    return tenant
