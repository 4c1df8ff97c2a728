"""Which errors are the environment's."""

from __future__ import annotations

import errno
import socket

import pytest
import redis
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auditcore_service.queue.shard_queue import QueueUnavailable
from auditcore_service.store.blobs import BlobStoreUnavailable
from auditcore_service.waiting_reasons import MESSAGES
from auditcore_service.worker.compute_process import ComputeProcessUnready
from auditcore_service.worker.environment_errors import TABLE, reason_of

CAUSE = ConnectionResetError("gone")
CASES = [
    (OperationalError("SELECT", {}, CAUSE), "database"),
    (InterfaceError("SELECT", {}, CAUSE), "database"),
    (ProgrammingError("SELECT", {}, CAUSE, connection_invalidated=True), "database"),
    (PoolTimeout(), "database"),
    (QueueUnavailable(), "queue"),
    (redis.ConnectionError(), "queue"),
    (BlobStoreUnavailable(errno.ENOSPC, "full"), "blob_store"),
    (ComputeProcessUnready("no memory to start"), "computer"),
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
