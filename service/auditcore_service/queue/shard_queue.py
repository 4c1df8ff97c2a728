"""What the service needs of a queue, Redis or the database.

The database is the truth: a shard waits because its row says `queued`. A queue only makes sure that a worker hears that
something waits: a message is a ticket, and names no shard. The worker that takes it claims the shard whose turn it is.
So it does not matter which message is lost, late or doubled; there only have to be enough of them. There are two
implementations: Celery on Redis, and the database itself, which workers ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from auditcore_service.settings import QueueName, Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import QueuedShard
from auditcore_service.store.transitions import ShardKind

QUEUES: Mapping[ShardKind, QueueName] = {
    "measure": "gpu",
    "compute": "gpu",
    "assemble": "control",
    "train": "training",
    "finish": "training",
    "stage": "training",
}
"""Which queue carries which kind of shard. Queues, not priorities: those run backwards on Redis."""


def kinds_of(*queues: QueueName) -> tuple[ShardKind, ...]:
    """The kinds of shards of some queues."""
    return tuple(kind for kind, name in QUEUES.items() if name in queues)


class QueueUnavailable(Exception):
    """The queue does not answer. Nothing is lost: the sweeper sends the missing tickets later."""


class ShardQueue(Protocol):
    """Tells workers about shards, and about models to inspect. Safe to use from several threads."""

    def announce(self, shards: Sequence[QueuedShard]) -> None:
        """Send one ticket for each shard, after the transaction that queued the shards has been committed.

        Raises:
            QueueUnavailable: The queue does not answer.
        """

    def send_tickets(self, queue: QueueName, count: int) -> None:
        """Tell workers `count` times that something waits in a queue.

        Raises:
            QueueUnavailable: The queue does not answer.
        """

    def announce_inspection(self, digest: str) -> None:
        """Tell a worker which inspection is wanted, after the transaction that stored it has been committed.

        Raises:
            QueueUnavailable: The queue does not answer.
        """

    def depth(self, queue: QueueName) -> int:
        """Number of tickets that wait in a queue and that no worker holds.

        Raises:
            QueueUnavailable: The queue does not answer.
        """

    def check(self) -> None:
        """Prove that the queue answers.

        Raises:
            QueueUnavailable: It does not.
        """

    def close(self) -> None:
        """Close all connections that the queue opened."""


def open_queue(settings: Settings, database: Database) -> ShardQueue:
    """The queue that the settings name.

    Args:
        settings: The operator's settings.
        database: Where shards are stored; the queue uses it but does not close it.

    Raises:
        ValueError: The queue is Redis, and its address is not set.
    """
    if settings.queue == "database":
        from auditcore_service.queue.database_queue import DatabaseQueue  # noqa: PLC0415 - only what is used is loaded

        return DatabaseQueue(database)
    from auditcore_service.queue.celery_queue import CeleryQueue  # noqa: PLC0415 - a service without Redis needs no Celery

    return CeleryQueue(settings)
