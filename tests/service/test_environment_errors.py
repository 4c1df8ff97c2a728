"""Which errors are the environment's."""

from __future__ import annotations

import errno
import socket

import aiohttp
import botocore.exceptions
import pytest
import redis
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auditcore.errors import UnreachableResource
from auditcore_service.queue.shard_queue import QueueUnavailable
from auditcore_service.waiting_reasons import MESSAGES
from auditcore_service.worker.environment_errors import TABLE, blob_store_errors, reason_of

CAUSE = ConnectionResetError("gone")
CASES = [
    (OperationalError("SELECT", {}, CAUSE), "database"),
    (InterfaceError("SELECT", {}, CAUSE), "database"),
    (ProgrammingError("SELECT", {}, CAUSE, connection_invalidated=True), "database"),
    (PoolTimeout(), "database"),
    (QueueUnavailable(), "queue"),
    (redis.ConnectionError(), "queue"),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="http://store"), "blob_store"),
    (aiohttp.ClientError(), "blob_store"),
    (OSError(errno.ENOSPC, "full"), "disk"),
    (OSError(errno.EROFS, "read-only"), "disk"),
    (OSError(errno.EIO, "broken"), "disk"),
    (ConnectionResetError(), "network"),
    (TimeoutError(), "network"),
    (ProgrammingError("SELECT", {}, ValueError()), None),
    (IntegrityError("INSERT", {}, ValueError()), None),
    (MemoryError(), None),
    (RuntimeError(), None),
    (FileNotFoundError(errno.ENOENT, "none"), None),
    (socket.gaierror(socket.EAI_NONAME, "no such name"), None),
]


@pytest.mark.parametrize(("error", "reason"), CASES, ids=[f"{type(one).__name__}-{reason}" for one, reason in CASES])
def test_the_layer_of_an_error_is_known(error: Exception, reason: str | None) -> None:
    assert reason_of(error) == reason
    wrapped = RuntimeError()
    wrapped.__cause__ = error
    assert reason_of(wrapped) == reason


def test_every_reason_has_a_message() -> None:
    assert {reason for reason, _ in TABLE} <= set(MESSAGES)


def test_what_a_store_fails_with_is_known_to_be_of_the_store() -> None:
    with pytest.raises(Exception, match="PermissionError") as found, blob_store_errors():
        raise PermissionError(errno.EACCES, "not yours")
    assert reason_of(found.value) == "blob_store"
    missing = UnreachableResource("nothing is stored", field="images")
    with pytest.raises(UnreachableResource), blob_store_errors():
        raise missing
