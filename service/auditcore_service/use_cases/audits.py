"""What can be done with an audit: submit, look up, list, follow, cancel, read the report. Knows nothing of HTTP."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import rfc8785
import structlog
from pydantic import BaseModel
from sqlalchemy import Connection

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.capabilities import WHITE_BOX, ModelCapabilities
from auditcore.contracts.images import ImageBatchReference, ImageUris, InlineImages
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import validate_policy
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.request import AuditRequest
from auditcore.costs.cost_model import Estimate
from auditcore.errors import InvalidRequest, LimitExceeded, UnreachableResource
from auditcore.report.failure import AuditFailure
from auditcore.sources.resolving import resolve_request
from auditcore_service.queue.announcer import Announcer
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_audit, insert_audit, list_audits
from auditcore_service.store.batches import batch_size
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.events import events_after
from auditcore_service.store.idempotency import Reservation, bind_key, find_key, reserve_key
from auditcore_service.store.records import Audit, Event
from auditcore_service.store.shards import cancel_audit
from auditcore_service.store.transitions import TERMINAL, AuditState
from auditcore_service.use_cases.cursors import decode_cursor, encode_cursor
from auditcore_service.use_cases.estimates import Estimates, objection_to, refuse_dear_servers
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.locations import unsafe_integer
from auditcore_service.use_cases.refusals import (
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    NotFound,
    ReportNotReady,
    RequestInFlight,
)
from auditcore_service.use_cases.sharding import images_per_shard, shards_of
from auditcore_service.use_cases.uploaded_maps import MapUploads

log = structlog.get_logger(__name__)

KEY_LENGTH = 255

LARGEST_INTEGER = 2**53 - 1
"""The largest that canonical JSON can write."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What `submit` hands out. Nothing else reaches the database, which refuses some characters with an error."""


@final
class _Pictured(BaseModel):
    """The part of a report that lists its pictures; it reads the reports of earlier versions too."""

    artifacts: tuple[Artifact, ...] = ()


@final
@dataclass(frozen=True)
class Quote:
    """What a request would cost, and why the operator would refuse that much, if so."""

    estimate: Estimate
    objection: str | None


@final
class Audits:
    """The use cases."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        blobs: BlobStore,
        announcer: Announcer,
        batches: ImageBatches,
        maps: MapUploads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._announcer = announcer
        self._batches = batches
        self._maps = maps
        self._estimates = Estimates(settings)
        self._access = settings.access
        self._clock = clock

    def submit(self, request: AuditRequest, *, idempotency_key: str | None = None) -> Audit:
        """Check a request, store it with all its shards and announce the first wave.

        Args:
            request: What to audit.
            idempotency_key: The same key with the same request gives the same audit for a day.

        Raises:
            InputError: The request cannot be carried out; nothing was stored.
            BudgetExceeded: It would cost more than the operator allows; nothing was stored.
            InvalidIdempotencyKey: The key is empty, too long or not printable.
            IdempotencyKeyReused: The key came with another request.
            RequestInFlight: The first request with this key is still being answered.
        """
        if idempotency_key is None:
            return self._submit(request, key=None, fingerprint=_fingerprint(request))
        key = _checked_key(idempotency_key)
        fingerprint = _fingerprint(request)
        # most keys are new: one look without the write lock, so that a repeated request is not priced again
        with self._database.reading() as connection:
            known = find_key(connection, key, fingerprint, now=self._clock())
        return self._known(known) or self._submit(request, key=key, fingerprint=fingerprint)

    def _known(self, reservation: Reservation) -> Audit | None:
        """The audit that a key stands for; None if the key is new."""
        match reservation.state:
            case "reused":
                msg = "this Idempotency-Key came before with another body; send a new key for a new audit"
                raise IdempotencyKeyReused(msg, field="Idempotency-Key")
            case "in_flight":
                msg = "the first request with this Idempotency-Key is still being answered; try again in a moment"
                raise RequestInFlight(msg, field="Idempotency-Key")
        return None if reservation.audit_id is None else self.get(reservation.audit_id)

    def estimate(self, request: AuditRequest) -> Quote:
        """What a request would cost; checks it as `submit` does, and stores nothing.

        Raises:
            InputError: The request cannot be carried out.
        """
        _fingerprint(request)
        plan = self._checked_plan(request)
        request, model_capabilities = self._resolved(request)
        with self._database.reading() as connection:
            images = self._count_images(connection, request)
            self._maps.check(plan, images=images)
            estimate = self._estimates.price(
                connection, request, plan, images=images, model_capabilities=model_capabilities
            ).estimate
        return Quote(estimate, objection_to(estimate, plan, self._settings))

    def _submit(self, request: AuditRequest, *, key: str | None, fingerprint: str) -> Audit:
        plan = self._checked_plan(request)
        request, model_capabilities = self._resolved(request)
        with self._database.reading() as connection:
            images = self._count_images(connection, request)
            self._maps.check(plan, images=images)
            price = self._estimates.price(
                connection, request, plan, images=images, model_capabilities=model_capabilities
            )
        refuse_dear_servers(request, plan, images=images, model_capabilities=model_capabilities)
        self._estimates.check(price.estimate, plan)
        if isinstance(request.images, InlineImages):
            # no row of the database holds pixels
            digest, _ = self._batches.store_inline(request.images.images)
            request = request.model_copy(update={"images": ImageBatchReference(digest=digest)})
        shard_images = images_per_shard(
            plan,
            passes_per_s=price.slowest,
            target_s=self._settings.shard_target_s,
            most=self._settings.shard_images,
        )
        shards = shards_of(
            plan, images=images, shard_images=shard_images, models=len(request.references), stop=request.stop
        )
        written = {
            "request": request.model_dump_json(),
            "plan": plan.model_dump_json(),
            "estimate": price.estimate.model_dump_json(),
        }
        audit_id = str(uuid.uuid4())
        reservation = Reservation("new")
        with self._database.writing() as connection:
            if key is not None:
                # if the request is refused or this process dies, the transaction rolls back and the key is free again
                reservation = reserve_key(connection, key, fingerprint, now=self._clock())
            if reservation.state == "new":
                audit, queued = insert_audit(
                    connection, audit_id=audit_id, images=images, shards=shards, now=self._clock(), **written
                )
                if key is not None:
                    bind_key(connection, key, audit_id)
        if reservation.state != "new":
            # the same request was answered a moment earlier
            return self._known(reservation) or self.get(audit_id)
        # the audit is stored, so it is accepted; should the announcement be lost, the sweeper makes it again
        self._announcer.announce(queued)
        log.info("audit_submitted", audit_id=audit_id, images=images, shards=len(queued))
        return audit

    def _checked_plan(self, request: AuditRequest) -> AuditPlan:
        """The plan in full, of a request that can be carried out as far as that shows without images and model."""
        access = self._settings.access
        access.check_images(request.images)
        plan = resolve_plan(request.plan)
        validate_policy(request.policy, plan, [name for name, _ in request.references if name is not None])
        return plan

    def _resolved(self, request: AuditRequest) -> tuple[AuditRequest, tuple[ModelCapabilities, ...]]:
        """The same request about models as they are now, by version and digest; and what each lets an audit see."""
        request, found = resolve_request(request, self._access)
        # what only loading can tell is taken for everything, so that a price is never too low
        return request, tuple(WHITE_BOX if one.capabilities is None else one.capabilities for one in found)

    def _count_images(self, connection: Connection, request: AuditRequest) -> int:
        match request.images:
            case ImageBatchReference(digest=digest):
                size = batch_size(connection, digest)
                if size is None:
                    msg = f"no image batch {digest} is stored; upload it with POST /v1/image-batches first"
                    raise InvalidRequest(msg, field="images.digest")
                return size
            case ImageUris(uris=uris):
                limit = self._settings.batch_images
                if len(uris) > limit:
                    raise LimitExceeded(
                        what="the list of images", limit=limit, actual=len(uris), unit="images", field="images.uris"
                    )
                return len(uris)
            case InlineImages(images=inline):
                return len(inline)

    def get(self, audit_id: str) -> Audit:
        """One audit.

        Raises:
            NotFound: There is none.
        """
        audit = None
        if _ID.fullmatch(audit_id):
            with self._database.reading() as connection:
                audit = find_audit(connection, audit_id)
        if audit is None:
            msg = f"there is no audit {audit_id[:64]!r}; take the id from the answer to POST /v1/audits"
            raise NotFound(msg)
        return audit

    def page(
        self, *, cursor: str | None, limit: int, state: AuditState | None = None
    ) -> tuple[tuple[Audit, ...], str | None]:
        """Audits, newest first, and the cursor of the next page.

        Raises:
            InvalidCursor: The cursor is not from this service.
        """
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading() as connection:
            found = list_audits(connection, after=after, limit=limit + 1, state=state)
        audits = found[:limit]
        more = len(found) > limit
        return audits, encode_cursor(audits[-1].created_at, audits[-1].id) if more else None

    def cancel(self, audit_id: str) -> Audit:
        """Ask an audit to stop; asking twice, or too late, changes nothing.

        Raises:
            NotFound: There is none.
        """
        self.get(audit_id)
        with self._database.writing() as connection:
            if cancel_audit(connection, audit_id, now=self._clock()):
                log.info("audit_cancelled", audit_id=audit_id)
        return self.get(audit_id)

    def report(self, audit_id: str) -> bytes:
        """The report, byte for byte as it was assembled.

        Raises:
            NotFound: There is no such audit.
            ReportNotReady: It has no report, yet or ever.
        """
        audit = self.get(audit_id)
        if audit.report_digest is None:
            match audit.state:
                case "cancelled":
                    advice = "submit it again"
                case "failed":
                    advice = "look at its `error`"
                case _:
                    advice = "wait until its state is `succeeded`"
            msg = f"audit {audit_id} is {audit.state} and has no report; {advice}"
            raise ReportNotReady(msg)
        return self._blobs.get(audit.report_digest)

    def failure(self, audit_id: str) -> AuditFailure | None:
        """Why an audit has no report and will have none; None if it has one or may still get one.

        Raises:
            NotFound: There is no such audit.
        """
        audit = self.get(audit_id)
        if audit.state not in {"failed", "cancelled"}:
            return None
        failure = audit.failure
        ended = self._clock() if audit.finished_at is None else audit.finished_at
        return AuditFailure(
            audit_id=audit.id,
            state="failed" if audit.state == "failed" else "cancelled",
            code=audit.state if failure is None else failure.code,
            message=f"the audit was {audit.state}; submit it again" if failure is None else failure.message,
            field=None if failure is None else failure.field,
            seconds=max(0.0, ended - (audit.started_at or audit.created_at)),
        )

    def artifact(self, audit_id: str, digest: str) -> Artifact:
        """The entry of a report's picture; a digest of anything else that is stored is as unknown as any other.

        Raises:
            NotFound: There is no such audit, or its report lists no such picture.
            ReportNotReady: It has no report, yet or ever.
        """
        for artifact in _Pictured.model_validate_json(self.report(audit_id)).artifacts:
            if artifact.digest == digest:
                return artifact
        msg = f"the report of audit {audit_id} lists no picture {digest[:71]!r}; take a digest from its `artifacts`"
        raise NotFound(msg)

    def picture(self, digest: str) -> bytes:
        """The bytes of an artifact of some report.

        Raises:
            NotFound: They are no longer stored.
        """
        try:
            return self._blobs.get(digest)
        except UnreachableResource as error:
            msg = f"the picture {digest} is no longer stored; submit the audit again"
            raise NotFound(msg) from error

    def events(self, audit_id: str, *, after: int) -> tuple[tuple[Event, ...], bool]:
        """Events of an audit with an id above `after`, and whether none will follow them."""
        # the state is read first: an audit that ends in between still has its last event found in the next call
        ended = self.get(audit_id).state in TERMINAL
        with self._database.reading() as connection:
            return events_after(connection, audit_id, after=after), ended


def _checked_key(key: str) -> str:
    # the draft writes it as a quoted string; most clients send it bare
    bare = key.strip().removeprefix('"').removesuffix('"')
    if not bare or len(bare) > KEY_LENGTH or not bare.isascii() or not bare.isprintable():
        msg = f"an Idempotency-Key is 1 to {KEY_LENGTH} printable ASCII characters, such as a UUID"
        raise InvalidIdempotencyKey(msg, field="Idempotency-Key")
    return bare


def _fingerprint(request: AuditRequest) -> str:
    try:
        return digest_of(request)
    except rfc8785.CanonicalizationError as error:
        at = unsafe_integer(request.model_dump(mode="json"), LARGEST_INTEGER) or ()
        msg = f"a number in the request has no canonical JSON form ({error}); integers must be below 2**53"
        raise InvalidRequest(msg, field=".".join(str(part) for part in at)) from error
