"""The watch over a shard while it is computed: its lease is renewed, and it is ended when its time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, final

import structlog

from auditcore.errors import AuditCancelled
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import beat_shard
from auditcore_service.worker.stopping import StopRequest

log = structlog.get_logger(__name__)

Overrun = Literal["stop", "time_limit"]
"""Why a shard is ended from outside: its worker has to stop, or it takes too long."""


@final
class Watch:
    """What the thread that computes and the thread that watches tell each other.

    Attributes:
        share: Share of the shard that is done, in [0, 1].
        begun: Whether the first image has been reached: the model is loaded.
        unwanted: Set once the shard is not needed any more, or is no longer this worker's.
        overrun: Why the watch has ended the shard, if it has.
        left: Set once the thread that computes has let go of the shard.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self.begun = False
        self.unwanted = threading.Event()
        self.overrun: Overrun | None = None
        self.left = threading.Event()

    def progress(self, value: float) -> None:
        """Take the share done, in [0, 1].

        Raises:
            AuditCancelled: The shard is no longer wanted.
        """
        self.begun = True
        self.share = min(max(value, self.share, 0.0), 1.0)
        if self.unwanted.is_set():
            raise AuditCancelled


@contextmanager
def heartbeat(
    shard: Shard,
    *,
    database: Database,
    settings: Settings,
    stopping: StopRequest,
    on_overrun: Callable[[Watch], None],
) -> Iterator[Watch]:
    """Renew the lease from a thread of its own, so that it also holds while a large model is loaded.

    Args:
        shard: A shard that this process has claimed.
        database: Holds the lease, and the clock by which it is measured.
        settings: Length of the lease, time between beats, the longest time a part of a shard may take, and how long a
            worker that is told to stop may work on.
        stopping: Whether the worker is told to stop.
        on_overrun: Called once in the other thread when the time is over, and `Watch.overrun` says why. The lease is
            not renewed any more.

    Yields:
        The watch.
    """
    watch = Watch()
    started = time.monotonic()

    def overrun() -> Overrun | None:
        if stopping.is_made() and stopping.age_s() >= settings.drain_s:
            return "stop"
        if time.monotonic() - started >= settings.part_limit_s:
            return "time_limit"
        return None

    def beat() -> None:
        while not watch.left.wait(settings.beat_s):
            watch.overrun = overrun()
            if watch.overrun is not None:
                watch.unwanted.set()
                on_overrun(watch)
                return
            try:
                with database.writing() as connection:
                    wanted = beat_shard(
                        connection,
                        shard.key,
                        attempt=shard.attempt,
                        progress=round(watch.share, 3),
                        now=database_time(connection),
                        lease_s=settings.lease_s,
                    )
            except Exception:  # a database that does not answer for a moment costs a beat, not the shard
                log.exception("heartbeat_missed", audit_id=shard.key.audit_id)
                continue
            if not wanted:
                watch.unwanted.set()
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.left.set()
        thread.join()
