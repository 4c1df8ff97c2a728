"""Known outages: something that the service needs is away, full or read-only. They are answered with 503, never 500.

One table says which errors these are. Nothing of the request was stored: rows are written in one transaction, and a
blob without a row is collected.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

import redis
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auditcore_service.queue.shard_queue import QueueUnavailable
from auditcore_service.store.blobs import BlobStoreUnavailable

RETRY_AFTER_S: Final = 5

_SQLITE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_PERM: "may not be opened",
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_FULL: "has no room left on its disk",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
}
"""Primary error code of SQLite -> what is wrong. Other codes are faults of this service."""

_POSTGRESQL: Final[Mapping[str, str]] = {
    "08": "does not answer",
    "25006": "is read-only",
    "28": "does not let this service in",
    "3D": "does not exist",
    "40": "is busy with the same rows",
    "53100": "has no room left on its disk",
    "53": "has no connection or memory left",
    "55P03": "is busy with the same rows",
    "57": "is being stopped or started",
    "58": "cannot be read or written",
}
"""Beginning of a SQLSTATE -> what is wrong; the longest beginning counts."""

_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE})
"""Errors of a file that is none of the blob store, such as that of an upload that is not read to its end yet."""


def _of_database(error: Exception) -> str | None:
    if isinstance(error, PoolTimeout):
        return "the database has no free connection"
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, sqlite3.Error):
        # the last byte of a code is the primary error, the others are details
        fault = _SQLITE.get(getattr(origin, "sqlite_errorcode", 0) & 0xFF)
        return None if fault is None else f"the database {fault}"
    state = getattr(origin, "sqlstate", None)
    if state is None:
        # a connection that was refused or lost has no state
        lost = isinstance(error, DisconnectionError) or (isinstance(error, DBAPIError) and _is_of_connection(error))
        return "the database does not answer" if lost else None
    for length in (5, 2):
        if state[:length] in _POSTGRESQL:
            return f"the database {_POSTGRESQL[state[:length]]}"
    return None


def _is_of_connection(error: DBAPIError) -> bool:
    return error.connection_invalidated or type(error.orig).__name__ in {"OperationalError", "ConnectionTimeout"}


def _of_blobs(error: Exception) -> str | None:
    return str(error.strerror) if isinstance(error, OSError) else None


def _of_queue(_error: Exception) -> str:
    return "the queue does not answer"


def _of_disk(error: Exception) -> str | None:
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    return f"a file of the gateway cannot be written: {error.strerror}"


_OUTAGES: Final[Mapping[type[Exception], Callable[[Exception], str | None]]] = {
    BlobStoreUnavailable: _of_blobs,
    DBAPIError: _of_database,
    DisconnectionError: _of_database,
    PoolTimeout: _of_database,
    # raised where a connection is opened, before SQLAlchemy gives it a class of its own
    sqlite3.Error: _of_database,
    QueueUnavailable: _of_queue,
    redis.RedisError: _of_queue,
    OSError: _of_disk,
}
"""Error -> what is wrong, as a clause; None where it is a fault of this service."""

OUTAGE_ERRORS: Final = tuple(_OUTAGES)


def outage(error: Exception) -> str | None:
    """What is away, full or read-only, as a sentence with what to do; None if an error says no such thing."""
    found = next((says for kind, says in _OUTAGES.items() if isinstance(error, kind)), None)
    clause = None if found is None else found(error)
    if clause is None:
        return None
    return f"{clause}; send the request again in some seconds, and if it keeps failing, tell the operator"
