"""Finds what was lost: shards of silent workers, and messages of a flushed queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import final

import structlog

from auditcore_service.queue.shard_queue import QUEUES, QueueName, QueueUnavailable, ShardQueue
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.idempotency import forget_keys
from auditcore_service.store.inspections import forget_inspections
from auditcore_service.store.records import Failure, QueuedShard
from auditcore_service.store.shards import announce_again, silent_shards, take_over_silent
from auditcore_service.store.webhook_deliveries import forget_deliveries

log = structlog.get_logger(__name__)


def worker_lost(attempts: int) -> Failure:
    """What an audit fails with when its workers keep dying."""
    return Failure(
        code="worker_lost",
        message=f"the worker died or went silent {attempts} times on the same images, most likely out of memory; "
        "use fewer samples or a smaller model, or ask the operator for larger workers",
    )


@final
class Sweeper:
    """One pass over the shards every few seconds. Several may run at once: each step is conditional."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        queue: ShardQueue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Sweep in the background until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Return when no sweep is running any more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self) -> tuple[QueuedShard, ...]:
        """One pass.

        Returns:
            The shards announced again.
        """
        found = (*self._take_over(), *self._find_unannounced())
        if found:
            self._queue.announce(found)
        with self._database.writing() as connection:
            forget_keys(connection, now=self._clock())
            forget_inspections(connection, now=self._clock())
            forget_deliveries(connection, now=self._clock())
        return found

    def _take_over(self) -> tuple[QueuedShard, ...]:
        opened: list[QueuedShard] = []
        with self._database.reading() as connection:
            silent = silent_shards(connection, now=self._clock())
        for key, attempt in silent:
            with self._database.writing() as connection:
                step = take_over_silent(
                    connection,
                    key,
                    attempt=attempt,
                    now=self._clock(),
                    failure=worker_lost(attempt),
                    max_attempts=self._settings.max_attempts,
                )
            if step.applied:
                log.warning("silent_shard_taken_over", audit_id=key.audit_id, index=key.index, attempt=attempt)
            opened += step.opened
        return tuple(opened)

    def _find_unannounced(self) -> tuple[QueuedShard, ...]:
        """Shards that say `queued` while their queue is empty: their message is gone.

        While the queue is not empty, shards may wait for their turn, and to announce them again would only make the
        queue longer. The database as queue is empty exactly when no shard waits, so nothing is announced again.
        """
        now = self._clock()
        names: set[QueueName] = {name for name in QUEUES.values() if self._queue.depth(name) == 0}
        kinds = [kind for kind, name in QUEUES.items() if name in names]
        with self._database.writing() as connection:
            return announce_again(connection, now=now, queued_before=now - self._settings.requeue_after_s, kinds=kinds)

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.sweep_s):
            try:
                self.sweep()
            except QueueUnavailable as error:
                log.warning("sweep_without_queue", reason=str(error))
            except Exception:  # the sweeper repairs what others lost, so it must not die
                log.exception("sweep_failed")
