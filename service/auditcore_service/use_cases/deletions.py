"""Delete audits, trainings, experiments, image batches and files of maps, and say later that they were deleted.

Rows go at once, and files when `Collection` finds that nothing references them. The event log gets an entry, and the
evidence of an audit stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, final

import structlog
from sqlalchemy import Connection

from auditcore.contracts.canonical_json import sha256
from auditcore.errors import InputError
from auditcore_service.principals import Principal
from auditcore_service.store.audit_inputs import AuditInput, find_unfinished_user
from auditcore_service.store.audits import delete_audit, lock_audit
from auditcore_service.store.batches import delete_batch, lock_batch
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.map_files import delete_map_file, lock_map_file
from auditcore_service.store.registrations import find_registration
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.use_cases.audits import Audits
from auditcore_service.use_cases.deleted_objects import (
    missing_audit,
    missing_batch,
    missing_experiment,
    missing_maps,
    missing_training,
)
from auditcore_service.use_cases.digests import is_digest
from auditcore_service.use_cases.evidence import Evidence
from auditcore_service.use_cases.experiments import Experiments
from auditcore_service.use_cases.refusals import AuditUnderWay, NotRegistered, SigningNotConfigured, UsedByAudit
from auditcore_service.use_cases.trainings import Trainings

log = structlog.get_logger(__name__)

Reason = Literal["request", "retention"]
"""Why something is deleted: a client asked for it, or it was kept for as long as its tenant wants."""


@final
class Deletions:
    """The use cases."""

    def __init__(
        self,
        *,
        database: Database,
        audits: Audits,
        trainings: Trainings,
        experiments: Experiments,
        evidence: Evidence,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._audits = audits
        self._trainings = trainings
        self._experiments = experiments
        self._evidence = evidence
        self._clock = clock

    def audit(self, principal: Principal, audit_id: str, *, reason: Reason = "request") -> None:
        """Delete an audit with its report, pictures, results and events. Its evidence is signed now if it was not.

        Raises:
            NotFound: There is none, or it was deleted before.
            AuditUnderWay: It has not ended.
        """
        audit = self._audits.get(principal, audit_id)
        if audit.state not in TERMINAL:
            msg = f"audit {audit_id} is {audit.state}; cancel it first with POST /v1/audits/{audit_id}/cancel"
            raise AuditUnderWay(msg)
        if audit.report_digest is not None:
            # a gateway without a key, and a report that is damaged or lost, must not keep the rest from being deleted
            with suppress(SigningNotConfigured, NotRegistered, InputError):
                self._evidence.of_audit(principal, audit_id)
        with self._database.writing(principal.tenant) as connection:
            if lock_audit(connection, audit_id) is None:
                raise missing_audit(connection, audit_id)
            data = {
                "what": "audit",
                "reason": reason,
                "state": audit.state,
                "verdict": audit.verdict,
                "report": audit.report_digest,
                "evidence": _kept_evidence(connection, audit_id),
            }
            delete_audit(connection, audit_id)
            self._append(connection, principal, audit_id, data)

    def training(self, principal: Principal, training_id: str, *, reason: Reason = "request") -> None:
        """Delete a training with its report and events, and its weights, unless an audit that is kept names them.

        Its evidence is signed now if it was not, and stays.

        Raises:
            NotFound: There is none, or it was deleted before.
            AuditUnderWay: It has not ended.
        """
        training = self._trainings.get(principal, training_id)
        if training.state not in TERMINAL:
            msg = (
                f"training {training_id} is {training.state}; cancel it first with POST "
                f"/v1/trainings/{training_id}/cancel"
            )
            raise AuditUnderWay(msg)
        if training.report_digest is not None:
            # as for audits
            with suppress(SigningNotConfigured, NotRegistered, InputError):
                self._evidence.of_training(principal, training_id)
        with self._database.writing(principal.tenant) as connection:
            if lock_audit(connection, training_id) is None:
                raise missing_training(connection, training_id)
            data = {
                "what": "training",
                "reason": reason,
                "state": training.state,
                "report": training.report_digest,
                "weights": training.weights_digest,
                "evidence": _kept_evidence(connection, training_id),
            }
            delete_audit(connection, training_id)
            self._append(connection, principal, training_id, data)

    def experiment(self, principal: Principal, experiment_id: str, *, reason: Reason = "request") -> None:
        """Delete an experiment with its report, files and events; weights stay where an audit that is kept names them.

        Raises:
            NotFound: There is none, or it was deleted before.
            AuditUnderWay: It has not ended.
        """
        experiment = self._experiments.get(principal, experiment_id)
        if experiment.state not in TERMINAL:
            msg = (
                f"experiment {experiment_id} is {experiment.state}; cancel it first with POST "
                f"/v1/experiments/{experiment_id}/cancel"
            )
            raise AuditUnderWay(msg)
        with self._database.writing(principal.tenant) as connection:
            if lock_audit(connection, experiment_id) is None:
                raise missing_experiment(connection, experiment_id)
            data = {
                "what": "experiment",
                "reason": reason,
                "state": experiment.state,
                "report": experiment.report_digest,
                "weights": experiment.weights_digest,
            }
            delete_audit(connection, experiment_id)
            self._append(connection, principal, experiment_id, data)

    def batch(self, principal: Principal, digest: str, *, reason: Reason = "request") -> None:
        """Delete an image batch. Audits that have ended and used it keep their reports, but cannot be replayed.

        Raises:
            NotFound: There is none, or it was deleted before.
            UsedByAudit: An audit that has not ended needs it.
        """
        with self._database.writing(principal.tenant) as connection:
            images = lock_batch(connection, digest) if is_digest(digest) else None
            if images is None:
                raise missing_batch(connection, digest)
            _refuse_if_needed(connection, AuditInput("batch", digest), "image batch")
            delete_batch(connection, digest)
            data = {"what": "image batch", "reason": reason, "images": images}
            self._append(connection, principal, digest, data)

    def maps(self, principal: Principal, digest: str, *, reason: Reason = "request") -> None:
        """Delete a file of maps. Audits that have ended and used it keep their reports, but cannot be replayed.

        Raises:
            NotFound: There is none, or it was deleted before.
            UsedByAudit: An audit that has not ended needs it.
        """
        with self._database.writing(principal.tenant) as connection:
            stored = lock_map_file(connection, digest) if is_digest(digest) else None
            if stored is None:
                raise missing_maps(connection, digest)
            _refuse_if_needed(connection, AuditInput("maps", digest), "file of maps")
            delete_map_file(connection, digest)
            data = {"what": "maps", "reason": reason, "size_bytes": stored.size_bytes}
            self._append(connection, principal, digest, data)

    def _append(self, connection: Connection, principal: Principal, subject: str, data: dict[str, Any]) -> None:
        append_entry(connection, "delete", subject, data, now=self._clock(), principal=principal.name)
        log.info("deleted", what=data["what"], subject=subject, reason=data["reason"])


def _kept_evidence(connection: Connection, job_id: str) -> str | None:
    """Digest of the evidence of a job, which stays when it is deleted; None if it has none."""
    registered = find_registration(connection, job_id)
    return None if registered is None or registered.evidence is None else sha256(registered.evidence)


def _refuse_if_needed(connection: Connection, used: AuditInput, what: str) -> None:
    user = find_unfinished_user(connection, used)
    if user is not None:
        msg = (
            f"audit, training or experiment {user} needs the {what} {used.digest} and has not ended; wait for it or "
            "cancel it first"
        )
        raise UsedByAudit(msg)
