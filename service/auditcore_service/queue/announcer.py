"""Announces shards in the background, so that a client waits for the database and never for the queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import final

import structlog

from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue
from auditcore_service.store.records import QueuedShard

log = structlog.get_logger(__name__)


@final
class Announcer:
    """One thread that sends what others hand over. Everything that waits is sent in one round trip.

    Nothing is lost when this process is killed: shards are handed over after the transaction that queued them, so they
    still say `queued` in the database, and the sweeper announces them.
    """

    def __init__(self, shards: ShardQueue) -> None:
        self._queue = shards
        self._waiting: queue.SimpleQueue[Sequence[QueuedShard] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Send in the background until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Return when everything that was handed over has been sent or left to the sweeper."""
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def announce(self, shards: Sequence[QueuedShard]) -> None:
        """Hand over shards; returns at once."""
        self._waiting.put(tuple(shards))

    def _run(self) -> None:
        going_on = True
        while going_on:
            handed = [self._waiting.get()]
            while not self._waiting.empty():
                handed.append(self._waiting.get())
            going_on = None not in handed
            shards = [shard for some in handed if some is not None for shard in some]
            try:
                if shards:
                    self._queue.announce(shards)
            except QueueUnavailable as error:
                log.warning("announcement_postponed", shards=len(shards), reason=str(error))
            except Exception:  # without this thread every audit would wait for the sweeper
                log.exception("announcer_failed")
