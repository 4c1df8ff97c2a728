"""Finds what was lost: shards of silent workers, and tickets of a queue that lost them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import final

import structlog

from auditcore_service.queue.shard_queue import QUEUES, QueueUnavailable, ShardQueue, kinds_of
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.idempotency import forget_keys
from auditcore_service.store.inspections import forget_inspections
from auditcore_service.store.records import Failure
from auditcore_service.store.shards import Lease, count_waiting, running_leases, take_over_silent
from auditcore_service.store.webhook_deliveries import forget_deliveries

log = structlog.get_logger(__name__)


def worker_lost(losses: int) -> Failure:
    """What an audit fails with when its workers keep going silent.

    Args:
        losses: How often they did on the same shard, without progress between.
    """
    return Failure(
        code="worker_lost",
        message=f"workers went silent {losses} times on the same images, and did not say why; ask the operator to look "
        "at the logs of the workers and of their hosts, then submit the audit again",
    )


@final
class Sweeper:
    """One pass over the shards every few seconds. Several may run at once: each step is conditional.

    A shard is taken over only if its lease has run out by the clock of the database, and if this process has seen the
    same lease for as long by its own monotonic clock. A worker that lives renews its lease many times meanwhile. So
    nothing is taken over because a clock was set, or because the database was away and no worker could renew.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        queue: ShardQueue,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[Lease, float] = {}
        self._looked_at = monotonic()
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

    def sweep(self) -> int:
        """One pass.

        Returns:
            Number of tickets sent.

        Raises:
            QueueUnavailable: The queue does not answer; shards of silent workers have been taken over.
        """
        self._take_over()
        with self._database.writing() as connection:
            forget_keys(connection, now=self._clock())
            forget_inspections(connection, now=self._clock())
            forget_deliveries(connection, now=self._clock())
        return self._send_missing_tickets()

    def _take_over(self) -> None:
        for lease in self._silent_for_too_long():
            with self._database.writing() as connection:
                step = take_over_silent(
                    connection,
                    lease,
                    now=database_time(connection),
                    failure=worker_lost(self._settings.max_losses),
                    max_losses=self._settings.max_losses,
                    backoff=self._settings.fault_backoff,
                )
            if step.applied:
                key = lease.key
                log.warning("silent_shard_taken_over", audit_id=key.audit_id, index=key.index, attempt=lease.attempt)

    def _silent_for_too_long(self) -> list[Lease]:
        lease_s = self._settings.lease_s
        try:
            with self._database.reading() as connection:
                leases, now = running_leases(connection), database_time(connection)
        except Exception:
            # while the database is away no worker can renew its lease, so that what was seen before says nothing
            self._seen.clear()
            raise
        looked_at = self._monotonic()
        if looked_at - self._looked_at > max(2 * self._settings.sweep_s, lease_s):
            # this process, or the database between two looks, stood still
            self._seen.clear()
        self._looked_at = looked_at
        self._seen = {lease: self._seen.get(lease, looked_at) for lease in leases}
        return [
            lease
            for lease, since in self._seen.items()
            # a lease that is longer than any was given before the clock was set back
            if (lease.until < now or lease.until > now + 2 * lease_s) and looked_at - since >= lease_s
        ]

    def _send_missing_tickets(self) -> int:
        """Make certain that each queue holds a ticket for every shard that could be claimed, whatever else it holds.

        Tickets may be lost by Redis, by a worker that dies, and by one that finds the database away. Tickets that are
        too many find nothing to claim, and cost a look.
        """
        sent = 0
        for queue in sorted(set(QUEUES.values())):
            with self._database.reading() as connection:
                waiting = count_waiting(connection, kinds=kinds_of(queue), now=database_time(connection))
            missing = waiting - self._queue.depth(queue) if waiting else 0
            if missing > 0:
                self._queue.send_tickets(queue, missing)
                sent += missing
        return sent

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.sweep_s):
            try:
                self.sweep()
            except QueueUnavailable as error:
                log.warning("sweep_without_queue", reason=str(error))
            except Exception:  # the sweeper repairs what others lost, so it must not die
                log.exception("sweep_failed")
