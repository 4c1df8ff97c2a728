"""The lease of a shard, renewed while the shard is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from auditcore.errors import AuditCancelled
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import beat_shard

log = structlog.get_logger(__name__)


@contextmanager
def heartbeat(
    shard: Shard, *, database: Database, settings: Settings, clock: Callable[[], float]
) -> Iterator[Callable[[float], None]]:
    """Renew the lease from a thread of its own, so that it also holds while a large model is loaded.

    Args:
        shard: A shard that this process has claimed.
        database: Holds the lease.
        settings: Length of the lease, time between beats, and the longest time a shard may take.
        clock: Seconds since 1970.

    Yields:
        A function that takes the share done, in [0, 1]; it raises AuditCancelled once the shard is no longer wanted.
    """
    share = 0.0
    unwanted = threading.Event()
    stopped = threading.Event()
    # a shard that takes longer than its limit hangs, and its lease must run out
    last_beat = time.monotonic() + settings.shard_limit_s

    def beat() -> None:
        while not stopped.wait(settings.beat_s) and time.monotonic() < last_beat:
            try:
                with database.writing() as connection:
                    wanted = beat_shard(
                        connection,
                        shard.key,
                        attempt=shard.attempt,
                        progress=round(share, 3),
                        now=clock(),
                        lease_s=settings.lease_s,
                    )
            except Exception:  # a database that does not answer for a moment costs a beat, not the shard
                log.exception("heartbeat_missed", audit_id=shard.key.audit_id)
                continue
            if not wanted:
                unwanted.set()
                return

    def progress(value: float) -> None:
        nonlocal share
        share = min(max(value, share, 0.0), 1.0)
        if unwanted.is_set():
            raise AuditCancelled

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        stopped.set()
        thread.join()
