"""How a worker without Celery finds in the database what waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from auditcore_service.queue.shard_queue import kinds_of
from auditcore_service.settings import QUEUE_NAMES, QueueName
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.fair_order import is_shard_waiting
from auditcore_service.store.inspections import claim_inspection, is_inspection_waiting

INSPECTIONS: Final[QueueName] = "gpu"
"""The queue whose workers also inspect models: those that would compute the audits of these models."""


@final
@dataclass(frozen=True)
class WantedInspection:
    """Names an inspection that waits for a worker."""

    digest: str


@final
@dataclass(frozen=True)
class Ticket:
    """Something waits; which shard is decided when it is claimed."""


@final
class Polling:
    """Looks for work, for one worker."""

    def __init__(
        self,
        database: Database,
        *,
        queues: Sequence[QueueName] = QUEUE_NAMES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._kinds = kinds_of(*queues)
        self._inspects = INSPECTIONS in queues
        self._clock = clock
        self._shards_first = False

    def take(self) -> Ticket | WantedInspection | None:
        """What this worker should do next; None when nothing waits.

        An inspection is the worker's own from now on. Inspections come first, because a client waits for them, but only
        every other time.
        """
        shards_first, self._shards_first = self._shards_first, False
        if shards_first:
            return self._ticket() or self._inspection()
        return self._inspection() or self._ticket()

    def _inspection(self) -> WantedInspection | None:
        if not self._inspects:
            return None
        with self._database.reading() as connection:
            if not is_inspection_waiting(connection):
                return None
        with self._database.writing() as connection:
            digest = claim_inspection(connection, now=self._clock())
        if digest is None:
            return None
        self._shards_first = True
        return WantedInspection(digest)

    def _ticket(self) -> Ticket | None:
        with self._database.reading() as connection:
            waiting = is_shard_waiting(connection, kinds=self._kinds, now=database_time(connection))
        return Ticket() if waiting else None
