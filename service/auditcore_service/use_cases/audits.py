"""What can be done with an audit: submit, look up, list, follow, cancel, read the report. Knows nothing of HTTP."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any, final

import structlog
from pydantic import BaseModel
from sqlalchemy import Connection

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.baseline_reference import BASELINE_MODEL
from auditcore.contracts.canonical_json import canonical_json, digest_of, sha256
from auditcore.contracts.images import ImageBatchReference, InlineImages, TensorImages
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.errors import UnreachableResource
from auditcore.evidence.registration import REGISTRATION_TYPE, RegisteredTraining, register
from auditcore.evidence.signing import SigningKey
from auditcore.report.failure import AuditFailure
from auditcore_service.principals import Principal
from auditcore_service.queue.announcer import Announcer
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_training_of, insert_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.events import audits_with_events, newest_event
from auditcore_service.store.idempotency import Reservation, bind_key, reserve_key
from auditcore_service.store.records import Audit
from auditcore_service.store.registrations import insert_registration
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.audit_uploads import inputs_of, pinned_file, use_uploads
from auditcore_service.use_cases.baselines import Baselines
from auditcore_service.use_cases.deleted_objects import missing_audit
from auditcore_service.use_cases.idempotent_requests import checked_key, fingerprint_of
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.jobs import Jobs
from auditcore_service.use_cases.policies import Policies
from auditcore_service.use_cases.priced_requests import PricedRequest, PricedRequests
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.refusals import (
    BudgetExceeded,
    NotFound,
)
from auditcore_service.use_cases.sharding import images_per_shard, shards_of
from auditcore_service.use_cases.uploaded_maps import MapUploads

log = structlog.get_logger(__name__)


@final
class _Pictured(BaseModel):
    """The part of a report that lists its pictures; it reads the reports of earlier versions too."""

    artifacts: tuple[Artifact, ...] = ()


@final
class Audits(Jobs):
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
        policies: Policies,
        quotas: Quotas,
        signing_key: SigningKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("audit", database=database, missing=missing_audit, clock=clock)
        self._settings = settings
        self._blobs = blobs
        self._announcer = announcer
        self._batches = batches
        self._quotas = quotas
        self._signing_key = signing_key
        self._pricing = PricedRequests(
            settings,
            database=database,
            batches=batches,
            maps=maps,
            policies=policies,
            baselines=Baselines(database=database, blobs=blobs),
        )

    def submit(
        self,
        principal: Principal,
        request: AuditRequest,
        *,
        idempotency_key: str | None = None,
        replay_of: str | None = None,
    ) -> Audit:
        """Check a request, store it with all its shards and announce the first wave.

        Args:
            principal: Who submits it, and whose it will be.
            request: What to audit.
            idempotency_key: The same key with the same request gives the same audit for a day.
            replay_of: Id of the audit that this one repeats, if it does.

        Raises:
            InputError: The request cannot be carried out; nothing was stored.
            BudgetExceeded: It would cost more than the operator allows, or more than its tenant may submit in a day;
                nothing was stored.
            QuotaExceeded: Nothing is left of a limit of its tenant.
            InvalidIdempotencyKey: The key is empty, too long or not printable.
            IdempotencyKeyReused: The key came with another request.
            RequestInFlight: The first request with this key is still being answered.
        """
        if idempotency_key is None:
            return self._submit(principal, request, key=None, fingerprint=fingerprint_of(request), replay_of=replay_of)
        key = checked_key(idempotency_key)
        fingerprint = fingerprint_of(request)
        # a repeated request must not be priced again
        known = self._find_reservation(principal, key, fingerprint)
        return self._known(principal, known) or self._submit(
            principal, request, key=key, fingerprint=fingerprint, replay_of=replay_of
        )

    def estimate(self, principal: Principal, request: AuditRequest) -> PricedRequest:
        """What a request would cost; makes all checks of `submit` but the budget, and stores nothing.

        A price above the operator's budget, or above what its tenant may still submit today, is an answer: `objection`
        is then set.

        Raises:
            InputError: The request cannot be carried out.
        """
        fingerprint_of(request)
        priced = self._pricing.price(principal, request)
        if priced.objection is not None:
            return priced
        objection = self._quotas.objection_to_passes(principal.tenant, priced.estimate.passes)
        return dataclasses.replace(priced, objection=objection)

    def _submit(
        self,
        principal: Principal,
        request: AuditRequest,
        *,
        key: str | None,
        fingerprint: str,
        replay_of: str | None,
    ) -> Audit:
        priced = self._pricing.price(principal, request)
        if priced.objection is not None:
            raise BudgetExceeded(priced.objection, field="plan")
        self._quotas.check_audit(principal.tenant, priced.estimate.passes)
        request, plan, images = priced.request, priced.plan, priced.images
        changes: dict[str, object] = {}
        match request.images:
            case InlineImages(images=inline):
                # no row of the database holds pixels
                changes["images"] = ImageBatchReference(digest=self._batches.store_inline(principal, inline)[0])
            case TensorImages() as tensors:
                changes["images"] = ImageBatchReference(digest=self._batches.store_tensors(principal, tensors)[0])
            case ImageBatchReference(digest=digest) if not request.class_names:
                changes["class_names"] = self._batches.get(principal, digest).class_names
        request = request.model_copy(update=changes)
        shard_images = images_per_shard(
            image_s=priced.longest_image_s,
            target_s=self._settings.shard_target_s,
            most=self._settings.shard_images,
        )
        shards = shards_of(
            plan,
            images=images,
            shard_images=shard_images,
            models=[name for name, _ in request.references],
            compared=[BASELINE_MODEL] if len(request.loaded_models) > len(request.references) else [],
            stop=request.stop,
        )
        # written before the transaction, which other writers wait for
        documents = request.model_dump_json(), plan.model_dump_json(), priced.estimate.model_dump_json()
        audit_id = str(uuid.uuid4())
        now = self._clock()
        registration = self._registration(principal, audit_id, request, plan, images=images, now=now)
        reservation = Reservation("new")
        with self._database.writing(principal.tenant) as connection:
            if key is not None:
                # if anything fails from here on, the transaction is rolled back and the key is free again
                reservation = reserve_key(connection, key, fingerprint, now=now)
            if reservation.state == "new":
                self._quotas.admit_audit(connection, principal.tenant, priced.estimate.passes)
                inputs = inputs_of(request, plan)
                # from here on nothing of this can be deleted
                use_uploads(connection, inputs, now=now)
                audit, queued = insert_audit(
                    connection,
                    audit_id=audit_id,
                    request=documents[0],
                    plan=documents[1],
                    estimate=documents[2],
                    images=images,
                    shards=shards,
                    now=now,
                    replay_of=replay_of,
                    name=request.name,
                    tags=request.tags,
                    inputs=inputs,
                )
                if key is not None:
                    bind_key(connection, key, audit_id)
                _log_submission(connection, principal, audit, request, registration)
        if reservation.state != "new":
            # the same request was stored a moment earlier by another call
            return self._known(principal, reservation) or self.get(principal, audit_id)
        # the audit is stored, so it is accepted; if the announcement is lost, the sweeper repeats it
        self._announcer.announce(queued)
        log.info("audit_submitted", audit_id=audit_id, images=images, shards=len(queued))
        return audit

    def _registration(
        self, principal: Principal, audit_id: str, request: AuditRequest, plan: AuditPlan, *, images: int, now: float
    ) -> bytes | None:
        """The signed registration of an audit that is about to be stored; None without a signing key."""
        if self._signing_key is None:
            return None
        files = (
            [entry.digest for entry in self._batches.get(principal, request.images.digest).entries]
            if isinstance(request.images, ImageBatchReference)
            else ()
        )
        record = register(
            audit_id=audit_id,
            request=request,
            plan=plan,
            images=images,
            files=files,
            registered_at=rfc3339(now),
            trainings=self._trainings_of(principal, request),
        )
        return self._signing_key.sign(canonical_json(record), payload_type=REGISTRATION_TYPE)

    def _trainings_of(self, principal: Principal, request: AuditRequest) -> list[RegisteredTraining]:
        """The trainings of the tenant that have made the weights of the models."""
        found = []
        with self._database.reading(principal.tenant) as connection:
            for name, reference in request.references:
                digest = pinned_file(reference)
                training = None if digest is None else find_training_of(connection, digest)
                if training is not None and digest is not None and training.report_digest is not None:
                    found.append(
                        RegisteredTraining(
                            model=name, training_id=training.id, weights=digest, report=training.report_digest
                        )
                    )
        return found

    def report(self, principal: Principal, audit_id: str) -> bytes:
        """The report, byte for byte as it was assembled.

        Raises:
            NotFound: There is no such audit.
            ReportNotReady: It has no report, yet or ever.
        """
        audit = self.get(principal, audit_id)
        if audit.report_digest is None:
            raise self._not_ready(audit, "no report")
        return self._blobs.of(principal.tenant).get(audit.report_digest)

    def failure(self, principal: Principal, audit_id: str) -> AuditFailure | None:
        """Why an audit has no report and will have none; None if it has one or may still get one.

        Raises:
            NotFound: There is no such audit.
        """
        audit = self.get(principal, audit_id)
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

    def artifact(self, principal: Principal, audit_id: str, digest: str) -> Artifact:
        """The entry of a report's picture. The digest of anything else that is stored is not found.

        Raises:
            NotFound: There is no such audit, or its report lists no such picture.
            ReportNotReady: It has no report, yet or ever.
        """
        for artifact in _Pictured.model_validate_json(self.report(principal, audit_id)).artifacts:
            if artifact.digest == digest:
                return artifact
        msg = f"the report of audit {audit_id} lists no picture {digest[:71]!r}; take a digest from its `artifacts`"
        raise NotFound(msg)

    def picture(self, principal: Principal, digest: str) -> bytes:
        """The bytes of an artifact of some report.

        Raises:
            NotFound: They are no longer stored.
        """
        try:
            return self._blobs.of(principal.tenant).get(digest)
        except UnreachableResource as error:
            msg = f"the picture {digest} is no longer stored; submit the audit again"
            raise NotFound(msg) from error

    def newest_event(self) -> int:
        """Number of the newest event of all audits; 0 if there is none."""
        with self._database.reading() as connection:
            return newest_event(connection)

    def audits_with_events(self, after: int) -> tuple[frozenset[str], int]:
        """Ids of the audits of all tenants that have events after this number, and the number of the newest event."""
        with self._database.reading() as connection:
            return audits_with_events(connection, after=after)


def _log_submission(
    connection: Connection, principal: Principal, audit: Audit, request: AuditRequest, registration: bytes | None
) -> None:
    """Store the signed registration of a new audit, if there is one, and log the submission."""
    data: dict[str, Any] = {"request": digest_of(request)}
    if audit.replay_of is not None:
        data["replay_of"] = audit.replay_of
    if registration is not None:
        data["registration"] = sha256(registration)
        insert_registration(connection, audit.id, registration, now=audit.created_at)
    append_entry(connection, "submit", audit.id, data, now=audit.created_at, principal=principal.name)
