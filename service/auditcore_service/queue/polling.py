"""How a worker takes from the database what waits there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from auditcore_service.store.database import Database
from auditcore_service.store.inspections import claim_inspection, is_inspection_waiting
from auditcore_service.store.records import ShardKey
from auditcore_service.store.shards import waiting_shards

WINDOW = 64
"""Most shards among which a worker chooses; as many as the workers that one setting can start."""


@final
@dataclass(frozen=True)
class WantedInspection:
    """Names an inspection that waits for a worker."""

    digest: str


@final
class Polling:
    """Looks for work, for one worker.

    A worker asks for the shard that has waited longest. When another worker was faster it chooses at random among more
    and more of the shards that wait, so that many workers do not all want the same one.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_attempts: int,
        clock: Callable[[], float] = time.time,
        random_numbers: random.Random | None = None,
    ) -> None:
        self._database = database
        self._max_attempts = max_attempts
        self._clock = clock
        self._random = random_numbers or random.Random()  # noqa: S311 - spreads workers, keeps no secret
        self._window = 1
        self._shards_first = False

    def take(self) -> ShardKey | WantedInspection | None:
        """What this worker should do next; None when nothing waits.

        An inspection is the worker's own from now on. A shard is not: whether it can still be claimed is found out by
        claiming it. Inspections come first, because a client waits for them, but only every other time.
        """
        shards_first, self._shards_first = self._shards_first, False
        if shards_first:
            return self._shard() or self._inspection()
        return self._inspection() or self._shard()

    def claimed(self, *, successfully: bool) -> None:
        """Say how claiming the last shard ended; it decides how the next one is chosen."""
        self._window = max(1, self._window - 1) if successfully else min(2 * self._window, WINDOW)

    def _inspection(self) -> WantedInspection | None:
        with self._database.reading() as connection:
            if not is_inspection_waiting(connection):
                return None
        with self._database.writing() as connection:
            digest = claim_inspection(connection, now=self._clock())
        if digest is None:
            return None
        self._shards_first = True
        return WantedInspection(digest)

    def _shard(self) -> ShardKey | None:
        with self._database.reading() as connection:
            waiting = waiting_shards(connection, limit=self._window, max_attempts=self._max_attempts)
        return self._random.choice(waiting).key if waiting else None
