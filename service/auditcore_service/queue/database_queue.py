"""The queue of a service without Redis: workers ask the database for shards that wait.

A shard waits as soon as the transaction that queued it is committed, so there is no message to send or to
lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.queue.shard_queue import QueueUnavailable, kinds_of
from auditcore_service.settings import QueueName
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.records import QueuedShard
from auditcore_service.store.shards import count_waiting


@final
class DatabaseQueue:
    """The rows of the shards, seen as a queue. Workers take from it in `worker.database_worker`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(self, shards: Sequence[QueuedShard]) -> None:
        """Nothing to do: workers find the rows."""

    def send_tickets(self, queue: QueueName, count: int) -> None:
        """Nothing to do: workers find the rows."""

    def announce_inspection(self, digest: str) -> None:
        """Nothing to do: workers find the row."""

    def depth(self, queue: QueueName) -> int:
        """Number of shards that a worker could claim now.

        Raises:
            QueueUnavailable: The database does not answer.
        """
        with _database_errors(), self._database.reading() as connection:
            return count_waiting(connection, kinds=kinds_of(queue), now=database_time(connection))

    def check(self) -> None:
        """Prove that the database answers.

        Raises:
            QueueUnavailable: It does not.
        """
        with _database_errors():
            self._database.check()

    def close(self) -> None:
        """Nothing to do: the database is closed by its owner."""


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        msg = f"the database, which is the queue, does not answer: {error}"
        raise QueueUnavailable(msg) from error
