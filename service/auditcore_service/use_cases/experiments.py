"""What can be done with an experiment: price, submit, look up, follow, cancel, read its files. Knows no HTTP."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any, final

import structlog

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.request import HeldOut
from auditcore_service.principals import Principal
from auditcore_service.queue.announcer import Announcer
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.batches import freeze_image
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.experiment_files import ExperimentFile, find_file, list_files
from auditcore_service.store.idempotency import Reservation, bind_key, reserve_key
from auditcore_service.store.records import Audit
from auditcore_service.use_cases.audit_uploads import experiment_inputs_of, use_uploads
from auditcore_service.use_cases.deleted_objects import missing_experiment
from auditcore_service.use_cases.experiment_shards import shards_of_experiment
from auditcore_service.use_cases.idempotent_requests import checked_key, fingerprint_of
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.jobs import Jobs
from auditcore_service.use_cases.prepared_experiments import PreparedExperiment, PreparedExperiments
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.refusals import BudgetExceeded, NotFound

log = structlog.get_logger(__name__)


@final
class Experiments(Jobs):
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("experiment", database=database, missing=missing_experiment, clock=clock)
        self._blobs = blobs
        self._announcer = announcer
        self._batches = batches
        self._quotas = quotas
        self._preparing = PreparedExperiments(settings, database=database, blobs=blobs, batches=batches)

    def estimate(self, principal: Principal, request: ExperimentRequest) -> PreparedExperiment:
        """What an experiment would cost; makes all checks of `submit` but the budget, and stores nothing.

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
        objection = self._quotas.objection_to_passes(principal.tenant, passes, kind="experiment")
        return dataclasses.replace(prepared, objection=objection)

    def submit(self, principal: Principal, request: ExperimentRequest, *, idempotency_key: str | None = None) -> Audit:
        """Check a request, store it with a shard for each of its stages, and announce those of the first wave.

        Args:
            principal: Who submits it, and whose it will be.
            request: The experiment.
            idempotency_key: The same key with the same request gives the same experiment for a day.

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
        self._quotas.check_audit(principal.tenant, prepared.estimate.passes, kind="experiment")
        return self._store(principal, prepared, key=key, fingerprint=fingerprint)

    def _store(self, principal: Principal, prepared: PreparedExperiment, *, key: str | None, fingerprint: str) -> Audit:
        request, sets = self._without_pixels(principal, prepared.request), prepared.sets
        inputs = experiment_inputs_of(request, model=prepared.model, audited=sets.audited)
        experiment_id = str(uuid.uuid4())
        images = sets.training + sets.validation + sets.test
        now = self._clock()
        reservation = Reservation("new")
        with self._database.writing(principal.tenant) as connection:
            if key is not None:
                # if anything fails from here on, the transaction is rolled back and the key is free again
                reservation = reserve_key(connection, key, fingerprint, now=now)
            if reservation.state == "new":
                self._quotas.admit_audit(connection, principal.tenant, prepared.estimate.passes, kind="experiment")
                # from here on nothing of this can be deleted
                use_uploads(connection, inputs, now=now)
                experiment, queued = insert_audit(
                    connection,
                    audit_id=experiment_id,
                    kind="experiment",
                    request=request.model_dump_json(),
                    plan=sets.model_dump_json(),
                    estimate=prepared.estimate.model_dump_json(),
                    images=images,
                    shards=shards_of_experiment(request),
                    now=now,
                    name=request.name,
                    tags=request.tags,
                    inputs=inputs,
                )
                for position, digest in prepared.fetched.items():
                    # the audit may be deleted, and what is behind a URI may change
                    freeze_image(connection, experiment_id, sets.training + sets.validation + position, digest)
                if key is not None:
                    bind_key(connection, key, experiment_id)
                data: dict[str, Any] = {"what": "experiment", "request": digest_of(request)}
                append_entry(connection, "submit", experiment_id, data, now=now, principal=principal.name)
        if reservation.state != "new":
            # the same request was stored a moment earlier by another call
            return self._known(principal, reservation) or self.get(principal, experiment_id)
        # the experiment is stored, so it is accepted; if the announcement is lost, the sweeper repeats it
        self._announcer.announce(queued)
        log.info("experiment_submitted", audit_id=experiment_id, plan=request.plan.kind, images=images)
        return experiment

    def _without_pixels(self, principal: Principal, request: ExperimentRequest) -> ExperimentRequest:
        """The request with its images as stored batches or URIs; no row of the database holds pixels."""
        changes: dict[str, object] = {"images": self._batches.without_pixels(principal, request.images)}
        if not isinstance(request.validation, HeldOut):
            changes["validation"] = self._batches.without_pixels(principal, request.validation)
        if isinstance(request, StudyRequest):
            changes["test"] = self._batches.without_pixels(principal, request.test)
        return request.model_copy(update=changes)

    def report_digest(self, principal: Principal, experiment_id: str) -> str:
        """Digest of the report.

        Raises:
            NotFound: There is no such experiment.
            ReportNotReady: It has no report, yet or ever.
        """
        experiment = self.get(principal, experiment_id)
        if experiment.report_digest is None:
            raise self._not_ready(experiment, "no report")
        return experiment.report_digest

    def files(self, principal: Principal, experiment_id: str) -> tuple[ExperimentFile, ...]:
        """What an experiment has kept until now, by name.

        Raises:
            NotFound: There is no such experiment.
        """
        self.get(principal, experiment_id)
        with self._database.reading(principal.tenant) as connection:
            return list_files(connection, experiment_id)

    def find_file(self, principal: Principal, experiment_id: str, name: str) -> ExperimentFile:
        """One of the files of an experiment.

        Raises:
            NotFound: There is no such experiment, or it has no such file.
        """
        experiment = self.get(principal, experiment_id)
        with self._database.reading(principal.tenant) as connection:
            found = find_file(connection, experiment_id, name)
        if found is None:
            msg = (
                f"experiment {experiment_id} is {experiment.state} and has no file {name[:200]!r}; the list of its "
                f"files is at /v1/experiments/{experiment_id}/files"
            )
            raise NotFound(msg)
        return found

    def content(self, principal: Principal, digest: str) -> bytes:
        """The bytes of a file."""
        return self._blobs.of(principal.tenant).get(digest)
