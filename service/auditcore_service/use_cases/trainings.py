"""What can be done with a training: price, submit, look up, list, follow, cancel, read what it made. Knows no HTTP."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any, final

import structlog

from auditcore.contracts.canonical_json import canonical_json, digest_of, sha256
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.evidence.signing import SigningKey
from auditcore.evidence.training_registration import TRAINING_REGISTRATION_TYPE, register_training
from auditcore_service.principals import Principal
from auditcore_service.queue.announcer import Announcer
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.idempotency import Reservation, bind_key, reserve_key
from auditcore_service.store.records import Audit, NewShard
from auditcore_service.store.registrations import insert_registration
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.audit_uploads import training_inputs_of, use_uploads
from auditcore_service.use_cases.deleted_objects import missing_training
from auditcore_service.use_cases.idempotent_requests import checked_key, fingerprint_of
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.jobs import Jobs
from auditcore_service.use_cases.prepared_trainings import PreparedTrainingRequest, PreparedTrainings
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.refusals import BudgetExceeded

log = structlog.get_logger(__name__)

FINISH_SHARE = 0.02
"""Work of making report and weights relative to all steps, for the progress bar only."""


@final
class Trainings(Jobs):
    """The use cases."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        blobs: BlobStore,
        announcer: Announcer,
        batches: ImageBatches,
        quotas: Quotas,
        signing_key: SigningKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("training", database=database, missing=missing_training, clock=clock)
        self._blobs = blobs
        self._announcer = announcer
        self._batches = batches
        self._quotas = quotas
        self._signing_key = signing_key
        self._preparing = PreparedTrainings(settings, database=database, batches=batches)

    def submit(self, principal: Principal, request: TrainingRequest, *, idempotency_key: str | None = None) -> Audit:
        """Check a request, store it with its shards and announce the first.

        Args:
            principal: Who submits it, and whose it will be.
            request: What to train.
            idempotency_key: The same key with the same request gives the same training for a day.

        Raises:
            InputError: The request cannot be carried out; nothing was stored.
            BudgetExceeded: It would cost more than the operator allows, or more than its tenant may submit in a day;
                nothing was stored.
            QuotaExceeded: Nothing is left of a limit of its tenant.
            InvalidIdempotencyKey: The key is empty, too long or not printable.
            IdempotencyKeyReused: The key came with another request.
            RequestInFlight: The first request with this key is still being answered.
        """
        key = None if idempotency_key is None else checked_key(idempotency_key)
        fingerprint = fingerprint_of(request)
        if key is not None:
            known = self._known(principal, self._find_reservation(principal, key, fingerprint))
            if known is not None:
                return known
        prepared = self._preparing.prepare(principal, request)
        if prepared.objection is not None:
            raise BudgetExceeded(prepared.objection, field="plan")
        self._quotas.check_audit(principal.tenant, prepared.estimate.passes, kind="training")
        return self._store(principal, prepared, key=key, fingerprint=fingerprint)

    def estimate(self, principal: Principal, request: TrainingRequest) -> PreparedTrainingRequest:
        """What a training would cost; makes all checks of `submit` but the budget, and stores nothing.

        A price above the operator's budget, or above what its tenant may still submit today, is an answer: `objection`
        is then set.

        Raises:
            InputError: The request cannot be carried out.
        """
        fingerprint_of(request)
        prepared = self._preparing.prepare(principal, request)
        if prepared.objection is not None:
            return prepared
        passes = prepared.estimate.passes
        objection = self._quotas.objection_to_passes(principal.tenant, passes, kind="training")
        return dataclasses.replace(prepared, objection=objection)

    def _store(
        self, principal: Principal, prepared: PreparedTrainingRequest, *, key: str | None, fingerprint: str
    ) -> Audit:
        request = self._without_pixels(principal, prepared.request)
        documents = (
            request.model_dump_json(),
            request.plan.model_dump_json(),
            prepared.estimate.model_dump_json(),
        )
        inputs = training_inputs_of(request)
        training_id = str(uuid.uuid4())
        now = self._clock()
        registration = self._registration(training_id, request, now=now)
        reservation = Reservation("new")
        with self._database.writing(principal.tenant) as connection:
            if key is not None:
                # if anything fails from here on, the transaction is rolled back and the key is free again
                reservation = reserve_key(connection, key, fingerprint, now=now)
            if reservation.state == "new":
                self._quotas.admit_audit(connection, principal.tenant, prepared.estimate.passes, kind="training")
                # from here on nothing of this can be deleted
                use_uploads(connection, inputs, now=now)
                training, queued = insert_audit(
                    connection,
                    audit_id=training_id,
                    kind="training",
                    request=documents[0],
                    plan=documents[1],
                    estimate=documents[2],
                    images=prepared.images,
                    shards=shards_of_training(prepared.steps),
                    now=now,
                    name=request.name,
                    tags=request.tags,
                    inputs=inputs,
                )
                if key is not None:
                    bind_key(connection, key, training_id)
                data: dict[str, Any] = {"what": "training", "request": digest_of(request)}
                if registration is not None:
                    data["registration"] = sha256(registration)
                    insert_registration(connection, training_id, registration, now=now)
                append_entry(connection, "submit", training_id, data, now=now, principal=principal.name)
        if reservation.state != "new":
            # the same request was stored a moment earlier by another call
            return self._known(principal, reservation) or self.get(principal, training_id)
        # the training is stored, so it is accepted; if the announcement is lost, the sweeper repeats it
        self._announcer.announce(queued)
        log.info("training_submitted", audit_id=training_id, images=prepared.images, steps=prepared.steps)
        return training

    def _registration(self, training_id: str, request: TrainingRequest, *, now: float) -> bytes | None:
        """The signed registration of a training that is about to be stored; None without a signing key."""
        if self._signing_key is None:
            return None
        record = register_training(training_id=training_id, request=request, registered_at=rfc3339(now))
        return self._signing_key.sign(canonical_json(record), payload_type=TRAINING_REGISTRATION_TYPE)

    def _without_pixels(self, principal: Principal, request: TrainingRequest) -> TrainingRequest:
        """The request with its images as stored batches or URIs; no row of the database holds pixels."""
        changes: dict[str, object] = {"images": self._batches.without_pixels(principal, request.images)}
        if not isinstance(request.validation, HeldOut):
            changes["validation"] = self._batches.without_pixels(principal, request.validation)
        return request.model_copy(update=changes)

    def report_digest(self, principal: Principal, training_id: str) -> str:
        """Digest of the report.

        Raises:
            NotFound: There is no such training.
            ReportNotReady: It has no report, yet or ever.
        """
        return str(self._ended(principal, training_id).report_digest)

    def report(self, principal: Principal, training_id: str) -> bytes:
        """The report, byte for byte as it was made.

        Raises:
            NotFound: There is no such training.
            ReportNotReady: It has no report, yet or ever.
        """
        return self.file(principal, self.report_digest(principal, training_id))

    def weights_digest(self, principal: Principal, training_id: str) -> str:
        """Digest of the file of weights: safetensors, with the names of the architecture.

        Raises:
            NotFound: There is no such training.
            ReportNotReady: It has no weights, yet or ever.
        """
        return str(self._ended(principal, training_id).weights_digest)

    def file(self, principal: Principal, digest: str) -> bytes:
        """The bytes of a report or of weights."""
        return self._blobs.of(principal.tenant).get(digest)

    def _ended(self, principal: Principal, training_id: str) -> Audit:
        """A training that has a report and weights."""
        training = self.get(principal, training_id)
        if training.report_digest is None or training.weights_digest is None:
            raise self._not_ready(training, "no report and no weights")
        return training


def shards_of_training(steps: int) -> tuple[NewShard, ...]:
    """The shards of a training as they are stored: its steps, which are done in parts, then report and weights.

    Args:
        steps: Number of steps if every image can be decoded. If some cannot, the last part ends earlier.
    """
    return (
        NewShard(wave=0, index=0, kind="train", start=0, stop=steps, weight=float(steps)),
        NewShard(wave=1, index=0, kind="finish", start=0, stop=1, weight=FINISH_SHARE * steps),
    )
