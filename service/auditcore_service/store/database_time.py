"""The one clock by which leases and waits are measured."""

from __future__ import annotations

import time

from sqlalchemy import Connection, text


def database_time(connection: Connection) -> float:
    """Seconds since 1970 by the clock of the database, so that hosts whose clocks differ agree on leases.

    SQLite has no clock of its own: its processes share a host.
    """
    if connection.dialect.name == "postgresql":
        # not now(), which stands still in a transaction that waits for a lock
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return time.time()
