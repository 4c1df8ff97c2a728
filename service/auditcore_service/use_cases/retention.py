"""Delete what tenants do not want to keep any longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, final

import structlog

from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.retention import due_audits, due_uploads, owners, retention_of
from auditcore_service.use_cases.deletions import Deletions
from auditcore_service.use_cases.refusals import Refusal

log = structlog.get_logger(__name__)

DAY_S: Final = 24 * 3600.0

AT_ONCE = 500
"""Objects of a kind that are deleted for a tenant in one run; the next run goes on."""


@final
class Retention:
    """The use case. Several may run at once, in several gateways."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        deletions: Deletions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._deletions = deletions
        self._clock = clock

    def enforce(self) -> int:
        """Delete jobs that ended too long ago, then batches and maps that none has used for as long.

        Returns:
            How many objects were deleted.
        """
        with self._database.reading() as connection:
            tenants = owners(connection)
        return sum(self._enforce(tenant) for tenant in tenants)

    def _enforce(self, tenant: str) -> int:
        with self._database.reading(tenant) as connection:
            days = retention_of(connection, tenant, default=self._settings.retention_days)
            if days is None:
                return 0
            before = self._clock() - days * DAY_S
            audits = due_audits(connection, before=before, limit=AT_ONCE)
            trainings = due_audits(connection, before=before, limit=AT_ONCE, kind="training")
            experiments = due_audits(connection, before=before, limit=AT_ONCE, kind="experiment")
        service = Principal(tenant, None, frozenset({"audits:read", "audits:delete"}))
        deleted = _delete(audits, lambda one: self._deletions.audit(service, one, reason="retention"))
        deleted += _delete(trainings, lambda one: self._deletions.training(service, one, reason="retention"))
        deleted += _delete(experiments, lambda one: self._deletions.experiment(service, one, reason="retention"))
        # an upload is due when the audits that used it are gone
        with self._database.reading(tenant) as connection:
            batches = due_uploads(connection, "batch", before=before, limit=AT_ONCE)
            maps = due_uploads(connection, "maps", before=before, limit=AT_ONCE)
        deleted += _delete(batches, lambda one: self._deletions.batch(service, one, reason="retention"))
        return deleted + _delete(maps, lambda one: self._deletions.maps(service, one, reason="retention"))


def _delete(objects: Sequence[str], delete: Callable[[str], None]) -> int:
    deleted = 0
    for one in objects:
        try:
            delete(one)
        except Refusal as refusal:
            # another gateway was first, or an audit has begun to use it
            log.info("not_deleted", subject=one, reason=refusal.message)
        except Exception:  # stores fail in many ways, and one report that cannot be read must not keep all the rest
            log.exception("deletion_failed", subject=one)
        else:
            deleted += 1
    return deleted
