"""Which errors the environment of a worker causes, and not the shard that it computes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final

import redis
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auditcore_service.queue.shard_queue import QueueUnavailable
from auditcore_service.store.blobs import BlobStoreUnavailable
from auditcore_service.waiting_reasons import WaitingReason
from auditcore_service.worker.compute_process import ComputeProcessUnready

_DISK = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.EMFILE,
        errno.ENFILE,
    }
)


def _is_connection(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _is_of_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK


TABLE: Final[tuple[tuple[WaitingReason, Callable[[BaseException], bool]], ...]] = (
    ("database", lambda error: isinstance(error, OperationalError | InterfaceError | PoolTimeout)),
    ("database", _is_connection),
    ("queue", lambda error: isinstance(error, QueueUnavailable | redis.RedisError | BrokerError)),
    ("blob_store", lambda error: isinstance(error, BlobStoreUnavailable)),
    ("computer", lambda error: isinstance(error, ComputeProcessUnready)),
    ("disk", _is_of_disk),
    ("network", lambda error: isinstance(error, ConnectionError | TimeoutError)),
)
"""Reason -> which errors it explains; the first that fits counts.

Everything else is a fault of the shard. Two kinds look alike and are none of these: what the database refuses because
it is wrong (IntegrityError, DataError, ProgrammingError), and what the library reports as InputError.
"""


def reason_of(error: BaseException) -> WaitingReason | None:
    """What of the environment has caused an error; None if it was not the environment.

    Args:
        error: The error; what it was raised from counts too.
    """
    for one in _chain(error):
        for reason, fits in TABLE:
            if fits(one):
                return reason
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__
