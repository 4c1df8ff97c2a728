"""What a tenant may use: the limits of the deployment, or its own, and what is left of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, final

from sqlalchemy import Connection

from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.tenants import NO_LIMIT, Tenant, find_tenant
from auditcore_service.store.transitions import JobKind
from auditcore_service.store.usage import add_passes, lock_usage, running_audits, stored_bytes, submitted_passes
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.refusals import BudgetExceeded, QuotaExceeded

RUNNING_RETRY_S: Final = 60
"""How long a client should wait for an audit of its tenant to end: the intended length of a shard."""

_RAISE: Final = "the operator can raise the limit with `auditcore tenants set`"


_REDUCE: Final[Mapping[JobKind, str]] = {
    "audit": "use fewer images, explainers, levels, repeats or draws",
    "training": "use fewer images or epochs, or a smaller audit after them",
}


@final
@dataclass(frozen=True)
class TenantLimits:
    """The limits in force for a tenant; None where there is no limit.

    Attributes:
        requests_per_minute: Requests in a minute.
        running_audits: Audits and trainings that have not ended.
        passes_per_day: Estimated forward passes of the audits and trainings submitted in a day (UTC).
        stored_bytes: Bytes of image batches and maps.
    """

    requests_per_minute: int | None
    running_audits: int | None
    passes_per_day: int | None
    stored_bytes: int | None


@final
@dataclass(frozen=True)
class TenantUsage:
    """What a tenant uses, and the limits in force for it.

    Attributes:
        tenant: Its name.
        limits: The limits in force.
        running_audits: Audits and trainings that have not ended.
        passes_today: Estimated forward passes of the audits and trainings submitted since midnight UTC.
        stored_bytes: Bytes of image batches and maps.
        day_ends_at: When passes are counted from 0 again, in seconds since 1970.
    """

    tenant: str
    limits: TenantLimits
    running_audits: int
    passes_today: int
    stored_bytes: int
    day_ends_at: float


@final
@dataclass(frozen=True)
class Room:
    """What is left of a tenant's limit on stored bytes.

    Attributes:
        tenant: Its name.
        used: Bytes that it stores.
        limit: The limit in force.
    """

    tenant: str
    used: int
    limit: int

    @property
    def left(self) -> int:
        """Bytes that it may still store; below 0 if its limit was lowered."""
        return self.limit - self.used

    def check(self, size: int, *, field: str) -> None:
        """Refuse what does not fit.

        Args:
            size: Bytes to be stored.
            field: Their field in the request.

        Raises:
            QuotaExceeded: They do not fit.
        """
        if size > self.left:
            msg = (
                f"tenant {self.tenant!r} stores {self.used} bytes of image batches and maps, its limit is "
                f"{self.limit}, and these are {size} more; delete what you no longer need, or send less; {_RAISE}"
            )
            raise QuotaExceeded(msg, field=field)


def limits_in_force(settings: Settings, tenant: Tenant | None) -> TenantLimits:
    """The limits of a tenant: its own, and those of the deployment where it has none."""

    def limit(own: int | None, default: int | None) -> int | None:
        return default if own is None else None if own == NO_LIMIT else own

    if tenant is None:
        return TenantLimits(
            settings.requests_per_minute, settings.running_audits, settings.passes_per_day, settings.stored_bytes
        )
    return TenantLimits(
        requests_per_minute=limit(tenant.requests_per_minute, settings.requests_per_minute),
        running_audits=limit(tenant.running_audits, settings.running_audits),
        passes_per_day=limit(tenant.passes_per_day, settings.passes_per_day),
        stored_bytes=limit(tenant.stored_bytes, settings.stored_bytes),
    )


@final
class Quotas:
    """The use cases.

    `admit_audit` and `admit_bytes` run in the transaction that stores what they admit, under a lock of the tenant, so
    that two requests cannot both take the last place. The other checks read what is used at the moment, so that a
    request without a chance is refused before anything is stored for it.
    """

    def __init__(self, settings: Settings, *, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock

    def limits(self, connection: Connection, tenant: str) -> TenantLimits:
        """The limits in force for a tenant."""
        return limits_in_force(self._settings, find_tenant(connection, tenant))

    def usage(self, tenant: str) -> TenantUsage:
        """What a tenant uses."""
        now = self._clock()
        with self._database.reading(tenant) as connection:
            return TenantUsage(
                tenant=tenant,
                limits=self.limits(connection, tenant),
                running_audits=running_audits(connection, tenant),
                passes_today=submitted_passes(connection, tenant, now=now),
                stored_bytes=stored_bytes(connection, tenant),
                day_ends_at=_end_of_day(now),
            )

    def objection_to_passes(self, tenant: str, passes: int, *, kind: JobKind = "audit") -> str | None:
        """Why a tenant may not submit an audit, or a training, of so many forward passes now; None if it may."""
        try:
            with self._database.reading(tenant) as connection:
                limit = self.limits(connection, tenant).passes_per_day
                self._check_passes(connection, tenant, passes, limit=limit, kind=kind)
        except (BudgetExceeded, QuotaExceeded) as refusal:
            return refusal.message
        return None

    def check_audit(self, tenant: str, passes: int, *, kind: JobKind = "audit") -> None:
        """Refuse an audit, or a training, that has no chance to be admitted now.

        Raises:
            BudgetExceeded: It has more forward passes than the tenant may submit in a whole day.
            QuotaExceeded: Too many audits and trainings are running, or too many passes were submitted today.
        """
        with self._database.reading(tenant) as connection:
            self._check_audit(connection, tenant, passes, kind)

    def admit_audit(self, connection: Connection, tenant: str, passes: int, *, kind: JobKind = "audit") -> None:
        """Admit an audit, or a training, and count its passes.

        Args:
            connection: The write transaction that stores the audit; it does not hold the lock of the event log yet.
            tenant: Whose audit it is.
            passes: Its forward passes, as estimated.
            kind: Which of both it is.

        Raises:
            BudgetExceeded: It has more forward passes than the tenant may submit in a whole day.
            QuotaExceeded: Too many audits and trainings are running, or too many passes were submitted today.
        """
        lock_usage(connection, tenant)
        self._check_audit(connection, tenant, passes, kind)
        add_passes(connection, tenant, passes, now=self._clock())

    def room(self, tenant: str) -> Room | None:
        """What a tenant may still store; None without a limit."""
        with self._database.reading(tenant) as connection:
            return self._room(connection, tenant)

    def admit_bytes(self, connection: Connection, tenant: str, size: int, *, field: str) -> None:
        """Admit an upload.

        Args:
            connection: The write transaction that records the upload.
            tenant: Who stores it.
            size: Its bytes.
            field: Its field in the request.

        Raises:
            QuotaExceeded: The tenant would store too many bytes.
        """
        lock_usage(connection, tenant)
        room = self._room(connection, tenant)
        if room is not None:
            room.check(size, field=field)

    def _room(self, connection: Connection, tenant: str) -> Room | None:
        limit = self.limits(connection, tenant).stored_bytes
        return None if limit is None else Room(tenant, stored_bytes(connection, tenant), limit)

    def _check_audit(self, connection: Connection, tenant: str, passes: int, kind: JobKind) -> None:
        limits = self.limits(connection, tenant)
        self._check_passes(connection, tenant, passes, limit=limits.passes_per_day, kind=kind)
        if limits.running_audits is None:
            return
        running = running_audits(connection, tenant)
        if running >= limits.running_audits:
            msg = (
                f"tenant {tenant!r} has {running} audits and trainings that wait or run, and its limit is "
                f"{limits.running_audits}; wait until one ends, or cancel one; {_RAISE}"
            )
            raise QuotaExceeded(msg, retry_after_s=RUNNING_RETRY_S)

    def _check_passes(
        self, connection: Connection, tenant: str, passes: int, *, limit: int | None, kind: JobKind = "audit"
    ) -> None:
        if limit is None:
            return
        reduce = _REDUCE[kind]
        if passes > limit:
            msg = (
                f"the {kind} is estimated at {passes} forward passes, and tenant {tenant!r} may submit {limit} in a "
                f"day; {reduce}; {_RAISE}"
            )
            raise BudgetExceeded(msg, field="plan")
        now = self._clock()
        submitted = submitted_passes(connection, tenant, now=now)
        if submitted + passes > limit:
            end = _end_of_day(now)
            msg = (
                f"the {kind} is estimated at {passes} forward passes, and tenant {tenant!r} has submitted {submitted} "
                f"of its {limit} for today; wait until {rfc3339(end)}, or {reduce}; {_RAISE}"
            )
            raise QuotaExceeded(msg, field="plan", retry_after_s=math.ceil(end - now))


def _end_of_day(now: float) -> float:
    """The next midnight in UTC, in seconds since 1970."""
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)).timestamp()
