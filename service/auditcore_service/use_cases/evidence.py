"""Evidence of audits and trainings: signed statements, their keys, sign-offs by people, and the event log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import structlog

from auditcore.contracts.canonical_json import canonical_json, sha256
from auditcore.evidence.event_log import LOG_HEAD_TYPE, LogEntry
from auditcore.evidence.signing import SigningKey
from auditcore.evidence.statement import STATEMENT_MEDIA_TYPE, statement
from auditcore.evidence.training_statement import training_statement
from auditcore_service.principals import DEFAULT_TENANT, Principal
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry, entries_about, lock_log, log_head, logged_tenants, read_log
from auditcore_service.store.registrations import (
    StoredKey,
    StoredRegistration,
    find_registration,
    insert_key,
    keep_evidence,
    list_keys,
)
from auditcore_service.store.transitions import JobKind
from auditcore_service.use_cases.audits import Audits
from auditcore_service.use_cases.refusals import (
    Deleted,
    NotRegistered,
    ReportNotReady,
    SignerMismatch,
    SignerUnknown,
    SigningNotConfigured,
)
from auditcore_service.use_cases.trainings import Trainings

log = structlog.get_logger(__name__)

Decision = Literal["approve", "reject"]

_NO_KEY = "this service signs nothing; the operator can set AUDIT_SIGNING_KEY to a file with a key and start it again"


_NOT_REGISTERED: Mapping[JobKind, str] = {"audit": "its criteria were", "training": "its plan was"}


@final
class Evidence:
    """The use cases."""

    def __init__(
        self,
        *,
        database: Database,
        audits: Audits,
        trainings: Trainings,
        signing_key: SigningKey | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._audits = audits
        self._trainings = trainings
        self._key = signing_key
        self._clock = clock

    @property
    def active_key_id(self) -> str | None:
        """Id of the key that signs; None without one."""
        return None if self._key is None else self._key.public.key_id

    def publish_key(self) -> None:
        """List the public key of this gateway, and log it if it is new; keys from before stay listed."""
        if self._key is None:
            return
        public, now = self._key.public, self._clock()
        with self._database.writing() as connection:
            # another gateway may start with the same key at this moment
            lock_log(connection, tenant=DEFAULT_TENANT)
            if insert_key(connection, public.key_id, pem=public.pem, now=now):
                # the key signs for all tenants; the order of names is the order of locks
                for tenant in sorted({DEFAULT_TENANT, *logged_tenants(connection)}):
                    data = {"public_key": public.pem}
                    append_entry(connection, "key", public.key_id, data, now=now, tenant=tenant)

    def public_keys(self) -> tuple[StoredKey, ...]:
        """Every public key that this deployment ever signed with, newest first."""
        with self._database.reading() as connection:
            return list_keys(connection)

    def of_audit(self, principal: Principal, audit_id: str) -> bytes:
        """The signed statement about the report of an audit; it is made when it is first asked for, and never changes.

        It stays when the audit is deleted.

        Raises:
            NotFound: There is no such audit.
            Deleted: It was deleted, and had no evidence.
            ReportNotReady: It has no report, yet or ever.
            SigningNotConfigured: There is no key to sign with.
            NotRegistered: The audit was submitted while there was no key.
        """
        return self._of("audit", principal, audit_id, read=self._audits.report, state=statement)

    def of_training(self, principal: Principal, training_id: str) -> bytes:
        """The signed statement about weights and report of a training; made and kept as that of an audit.

        Raises:
            NotFound: There is no such training.
            Deleted: It was deleted, and had no evidence.
            ReportNotReady: It has no report, yet or ever.
            SigningNotConfigured: There is no key to sign with.
            NotRegistered: The training was submitted while there was no key.
        """
        return self._of("training", principal, training_id, read=self._trainings.report, state=training_statement)

    def _of(
        self,
        kind: JobKind,
        principal: Principal,
        job_id: str,
        *,
        read: Callable[[Principal, str], bytes],
        state: Callable[[bytes, bytes], dict[str, Any]],
    ) -> bytes:
        """The evidence of a job.

        Args:
            kind: What it is.
            principal: Who asks.
            job_id: Its id.
            read: Reads its report.
            state: Makes the statement from report and registration.
        """
        try:
            report = read(principal, job_id)
        except Deleted:
            with self._database.reading(principal.tenant) as connection:
                kept = find_registration(connection, job_id)
            if kept is not None and kept.evidence is not None:
                return kept.evidence
            raise
        stored = self._registration(kind, principal, job_id)
        if stored.evidence is not None:
            return stored.evidence
        if self._key is None:
            raise SigningNotConfigured(_NO_KEY)
        signed = self._key.sign(canonical_json(state(report, stored.envelope)), payload_type=STATEMENT_MEDIA_TYPE)
        with self._database.writing(principal.tenant) as connection:
            if keep_evidence(connection, job_id, signed):
                data = {"evidence": sha256(signed), "key": self._key.public.key_id}
                append_entry(connection, "evidence", job_id, data, now=self._clock(), principal=principal.name)
                log.info("evidence_signed", audit_id=job_id, kind=kind, key_id=self._key.public.key_id)
                return signed
        # another gateway, perhaps with another key, has signed a moment earlier
        return self._registration(kind, principal, job_id).evidence or signed

    def sign_off(
        self, principal: Principal, audit_id: str, *, signer: str | None, decision: Decision, comment: str
    ) -> LogEntry:
        """Log what a person decides about a report.

        Args:
            principal: Who sends the decision.
            audit_id: Of the audit.
            signer: Who decides; needed from a principal without a name, and another name than its own is refused.
            decision: What is decided.
            comment: Reason or conditions.

        Raises:
            SignerUnknown: Nobody is named.
            SignerMismatch: A principal signs for somebody else.
            NotFound: There is no such audit.
            ReportNotReady: It has no report, yet or ever.
        """
        digest = self._audits.get(principal, audit_id).report_digest
        if digest is None:
            msg = f"audit {audit_id} has no report to sign off; wait until its state is `succeeded`"
            raise ReportNotReady(msg)
        if principal.name is not None and signer not in {None, principal.name}:
            msg = f"you are {principal.name!r} and cannot sign for {signer!r}; leave `principal` out"
            raise SignerMismatch(msg, field="principal")
        name = principal.name or signer
        if name is None:
            msg = "this service does not ask who you are, so name who decides: a name or an address"
            raise SignerUnknown(msg, field="principal")
        data = {"decision": decision, "comment": comment, "report": digest}
        with self._database.writing(principal.tenant) as connection:
            return append_entry(connection, "sign_off", audit_id, data, now=self._clock(), principal=name)

    def sign_offs(self, principal: Principal, audit_id: str) -> tuple[LogEntry, ...]:
        """Every sign-off of an audit, oldest first.

        Raises:
            NotFound: There is no such audit.
        """
        self._audits.get(principal, audit_id)
        with self._database.reading(principal.tenant) as connection:
            return tuple(entries_about(connection, audit_id, "sign_off"))

    def log_after(self, principal: Principal, sequence: int, *, limit: int) -> tuple[LogEntry, ...]:
        """Entries of the event log with a number above `sequence`, oldest first."""
        with self._database.reading(principal.tenant) as connection:
            return read_log(connection, after=sequence, limit=limit)

    def signed_head(self, principal: Principal) -> bytes:
        """The signed head of the event log: a DSSE envelope.

        Raises:
            SigningNotConfigured: There is no key to sign with.
        """
        if self._key is None:
            raise SigningNotConfigured(_NO_KEY)
        with self._database.reading(principal.tenant) as connection:
            head = log_head(connection, now=self._clock(), tenant=principal.tenant)
        return self._key.sign(canonical_json(head), payload_type=LOG_HEAD_TYPE)

    def _registration(self, kind: JobKind, principal: Principal, job_id: str) -> StoredRegistration:
        with self._database.reading(principal.tenant) as connection:
            stored = find_registration(connection, job_id)
        if stored is not None:
            return stored
        if self._key is None:
            raise SigningNotConfigured(_NO_KEY)
        msg = (
            f"{kind} {job_id} was submitted while the service had no signing key, so that {_NOT_REGISTERED[kind]} not "
            "registered; submit it again"
        )
        raise NotRegistered(msg)
