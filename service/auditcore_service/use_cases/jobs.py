"""What can be done with audits, trainings and experiments alike: look up, list, cancel, follow, recognize again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from auditcore_service.principals import Principal
from auditcore_service.store.audit_filters import EVERY_AUDIT, AuditFilter
from auditcore_service.store.audits import find_audit, list_audits
from auditcore_service.store.database import Database
from auditcore_service.store.events import events_after
from auditcore_service.store.idempotency import Reservation, find_key
from auditcore_service.store.records import Audit, Event
from auditcore_service.store.shards import cancel_audit
from auditcore_service.store.transitions import TERMINAL, JobKind
from auditcore_service.use_cases.audit_ids import is_audit_id
from auditcore_service.use_cases.cursors import decode_cursor, encode_cursor
from auditcore_service.use_cases.refusals import IdempotencyKeyReused, NotFound, ReportNotReady, RequestInFlight

log = structlog.get_logger(__name__)


class Jobs:
    """The use cases that audits, trainings and experiments have in common: those of the jobs of one kind."""

    def __init__(
        self,
        kind: JobKind,
        *,
        database: Database,
        missing: Callable[[Connection, str], NotFound],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember what is meant.

        Args:
            kind: Audits, trainings or experiments; those of other kinds do not exist here.
            database: Where they are stored.
            missing: The refusal for one that is not there.
            clock: Seconds since 1970.
        """
        self._kind: JobKind = kind
        self._database = database
        self._missing = missing
        self._clock = clock

    def get(self, principal: Principal, job_id: str) -> Audit:
        """One job.

        Raises:
            NotFound: There is none.
            Deleted: It was deleted.
        """
        with self._database.reading(principal.tenant) as connection:
            job = find_audit(connection, job_id, kind=self._kind) if is_audit_id(job_id) else None
            if job is None:
                raise self._missing(connection, job_id)
        return job

    def page(
        self, principal: Principal, *, cursor: str | None, limit: int, wanted: AuditFilter = EVERY_AUDIT
    ) -> tuple[tuple[Audit, ...], str | None]:
        """Jobs, newest first, and the cursor of the next page.

        Raises:
            InvalidCursor: The cursor is not from this service.
        """
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading(principal.tenant) as connection:
            found = list_audits(connection, after=after, limit=limit + 1, wanted=replace(wanted, kind=self._kind))
        jobs = found[:limit]
        more = len(found) > limit
        return jobs, encode_cursor(jobs[-1].created_at, jobs[-1].id) if more else None

    def cancel(self, principal: Principal, job_id: str) -> Audit:
        """Ask a job to stop; asking twice, or too late, changes nothing.

        Raises:
            NotFound: There is none.
        """
        self.get(principal, job_id)
        with self._database.writing(principal.tenant) as connection:
            if cancel_audit(connection, job_id, now=self._clock(), principal=principal.name):
                log.info("audit_cancelled", audit_id=job_id, kind=self._kind)
        return self.get(principal, job_id)

    def events(self, principal: Principal, job_id: str, *, after: int) -> tuple[tuple[Event, ...], bool]:
        """Events of a job with an id above `after`, and whether they are the last ones."""
        # the state is read first: if the job ends in between, the next call finds its last event
        ended = self.get(principal, job_id).state in TERMINAL
        with self._database.reading(principal.tenant) as connection:
            return events_after(connection, job_id, after=after), ended

    def _find_reservation(self, principal: Principal, key: str, fingerprint: str) -> Reservation:
        """What an idempotency key stands for; the look needs no write lock, as most keys are new."""
        with self._database.reading(principal.tenant) as connection:
            return find_key(connection, key, fingerprint, now=self._clock())

    def _known(self, principal: Principal, reservation: Reservation) -> Audit | None:
        """The job that a key stands for; None if the key is new.

        Raises:
            IdempotencyKeyReused: The key came with another request.
            RequestInFlight: The first request with this key is still being answered.
        """
        match reservation.state:
            case "reused":
                msg = f"this Idempotency-Key came before with another body; send a new key for a new {self._kind}"
                raise IdempotencyKeyReused(msg, field="Idempotency-Key")
            case "in_flight":
                msg = "the first request with this Idempotency-Key is still being answered; try again in a moment"
                raise RequestInFlight(msg, field="Idempotency-Key")
        return None if reservation.audit_id is None else self.get(principal, reservation.audit_id)

    def _not_ready(self, job: Audit, what: str) -> ReportNotReady:
        """The refusal for a job that has no result, yet or ever.

        Args:
            job: The job.
            what: What it does not have, such as `no report`.
        """
        match job.state:
            case "cancelled":
                advice = "submit it again"
            case "failed":
                advice = "look at its `error`"
            case _:
                advice = "wait until its state is `succeeded`"
        return ReportNotReady(f"{self._kind} {job.id} is {job.state} and has {what}; {advice}")
