"""Remembers when API keys were used, and stores it now and then, so that no request waits for a write."""

from __future__ import annotations

import threading
from typing import Final, final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.store.api_keys import note_uses
from auditcore_service.store.database import Database
from auditcore_service.store.tenancy import EVERY_TENANT

log = structlog.get_logger(__name__)

FLUSH_S: Final = 60.0
"""Seconds between two writes, however many requests there are."""


@final
class LastUses:
    """The uses since the last write; one entry per key, whatever is asked."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._uses: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-uses", daemon=True)

    def note(self, key_id: str, used_at: float) -> None:
        """Remember a use; takes no time.

        Args:
            key_id: The key.
            used_at: Seconds since 1970.
        """
        with self._lock:
            self._uses[key_id] = max(used_at, self._uses.get(key_id, used_at))

    def start(self) -> None:
        """Store in the background until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Store what is left, and return when it is stored."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Store now. If the database does not answer, the next call tries again."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            with self._database.writing(EVERY_TENANT) as connection:
                note_uses(connection, uses)
        except SQLAlchemyError:
            log.exception("last_uses_not_stored")
            for key_id, used_at in uses.items():
                self.note(key_id, used_at)

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_S):
            self.flush()
