"""Retention and collection in the background."""

from __future__ import annotations

import threading
from typing import final

import structlog

from auditcore_service.settings import Settings
from auditcore_service.use_cases.collection import Collection
from auditcore_service.use_cases.retention import Retention

log = structlog.get_logger(__name__)

FIRST_S = 60.0
"""When a process first does it, so that a service that never runs for long does it as well."""

STOP_S = 5.0
"""How long a process that ends waits for what runs."""


@final
class Housekeeping:
    """Deletes what is due and collects blobs, seldom. A thread of its own: a large store takes minutes to list."""

    def __init__(self, settings: Settings, *, retention: Retention, collection: Collection) -> None:
        self._pause_s = settings.collect_s
        self._retention = retention
        self._collection = collection
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin in the background, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait a moment for what runs; every step of it is complete in itself."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        pause_s = min(FIRST_S, self._pause_s)
        while not self._stopped.wait(pause_s):
            pause_s = self._pause_s
            try:
                self._retention.enforce()
                self._collection.collect()
            except Exception:  # databases and stores fail in many ways, and the next run tries again
                log.exception("housekeeping_failed")
