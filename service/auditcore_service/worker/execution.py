"""What a worker does with a shard key: claim, compute, complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import structlog
from pydantic import TypeAdapter

from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.costs.cost_model import Estimate
from auditcore.errors import AuditCancelled, InputError
from auditcore.orchestration.sharding import ShardRange
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.contents import NOTHING, AuditContents
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import answer_inspection, find_inspection
from auditcore_service.store.records import Audit, Failure, Shard, ShardKey, Step
from auditcore_service.store.shards import (
    abandon_shard,
    claim_shard,
    complete_shard,
    fail_audit,
    list_shards,
    release_shard,
    skip_rest,
)
from auditcore_service.store.transitions import ACTIVE
from auditcore_service.timestamps import rfc3339
from auditcore_service.worker.audit_storage import ObservationCache, SqlAuditStorage
from auditcore_service.worker.computer import AssemblyFacts, AuditTask, Computer
from auditcore_service.worker.heartbeat import heartbeat
from auditcore_service.worker.measured_speeds import MeasuredSpeeds

log = structlog.get_logger(__name__)

INTERNAL_ERROR = Failure(
    code="internal_error",
    message="the audit failed because of an error in the service, not because of the request; "
    "ask the operator to look at the workers' log, then submit it again",
)

INSPECTION_ERROR = Failure(
    code="internal_error",
    message="the inspection failed because of an error in the service, not because of the request; "
    "ask the operator to look at the workers' log, then send it again",
)

INSPECTED: TypeAdapter[ModelReference] = TypeAdapter(ModelReference)


@final
@dataclass(frozen=True)
class _Outcome:
    """What a shard has come to.

    Attributes:
        digest: Digest of its stored result.
        verdict: The verdict, if the result is a report.
        contents: What it has made and loaded.
    """

    digest: str
    verdict: str | None = None
    contents: AuditContents = NOTHING


@final
class Executor:
    """Runs shards, one at a time, in one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        blobs: BlobStore,
        queue: ShardQueue,
        computer: Computer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._queue = queue
        self._clock = clock
        self._computer = computer
        self._speeds = MeasuredSpeeds(database, clock)
        self._observed = ObservationCache()
        self._current: AuditTask | None = None

    def run(self, key: ShardKey) -> bool:
        """Claim a shard and bring it to an end, whatever happens.

        Returns:
            Whether the shard could be claimed. One that is done, cancelled or running elsewhere is left as it is.
        """
        with self._database.writing() as connection:
            shard = claim_shard(
                connection,
                key,
                now=self._clock(),
                lease_s=self._settings.lease_s,
                max_attempts=self._settings.max_attempts,
            )
        if shard is None:
            log.info("shard_not_claimable", audit_id=key.audit_id, wave=key.wave, index=key.index)
            return False
        logger = log.bind(audit_id=key.audit_id, wave=key.wave, index=key.index, kind=shard.kind, attempt=shard.attempt)
        logger.info("shard_started", start=shard.start, stop=shard.stop)
        started = time.monotonic()
        step = self._attempt(shard, logger)
        logger.info("shard_ended", applied=step.applied, seconds=round(time.monotonic() - started, 3))
        self._announce(step)
        if step.applied and shard.kind == "compute":
            self._announce(self._end_if_decided(shard.key, logger))
        return True

    def inspect(self, digest: str) -> None:
        """Load a model and store what will run on it; a failure is stored too, because a client waits for an answer."""
        with self._database.reading() as connection:
            wanted = find_inspection(connection, digest)
        if wanted is None or wanted.answer is not None or wanted.failure is not None:
            return
        reference = INSPECTED.validate_json(wanted.reference)
        answer, failure = None, None
        try:
            request = InspectionRequest.model_validate_json(wanted.request)
            answer = self._computer.inspect(
                request,
                reference,
                purpose=digest,
                tenant=wanted.tenant,
                blobs=self._blobs.of(wanted.tenant).get,
            ).model_dump_json()
        except InputError as error:
            log.warning("inspection_refused", code=error.code, message=error.message, field=error.field)
            failure = Failure(error.code, error.message, error.field)
        except Exception:
            log.exception("inspection_failed")
            failure = INSPECTION_ERROR
        with self._database.writing() as connection:
            answer_inspection(connection, digest, answer=answer, failure=failure)

    def _end_if_decided(self, key: ShardKey, logger: structlog.stdlib.BoundLogger) -> Step:
        """Skip the shards that a stop rule has made unnecessary.

        The decision rests on what is stored, this shard included. If the process dies in between, the worker that
        completes the next shard decides the same.
        """
        try:
            with self._database.reading() as connection:
                audit = find_audit(connection, key.audit_id)
            wanted = audit if audit is not None and audit.state in ACTIVE else None
            stop_at = None if wanted is None else self._computer.stop_at(self._task_of(wanted))
            if stop_at is None:
                return Step(applied=False)
            with self._database.writing() as connection:
                step = skip_rest(connection, key.audit_id, wave=key.wave, start=stop_at, now=self._clock())
        except Exception:  # a look that fails costs images, not the audit
            logger.exception("stop_rule_broke")
            return Step(applied=False)
        logger.info("audit_decided", images=stop_at, applied=step.applied)
        return step

    def _attempt(self, shard: Shard, logger: structlog.stdlib.BoundLogger) -> Step:
        """Compute a shard. Every outcome becomes exactly one transaction."""
        key, attempt = shard.key, shard.attempt
        try:
            with heartbeat(shard, database=self._database, settings=self._settings, clock=self._clock) as progress:
                outcome = self._compute(shard, progress)
        except AuditCancelled:
            logger.info("shard_abandoned")
            with self._database.writing() as connection:
                return abandon_shard(connection, key, attempt=attempt, now=self._clock())
        except InputError as error:
            logger.warning("shard_refused", code=error.code, message=error.message, field=error.field)
            failure = Failure(error.code, error.message, error.field)
            if error.passing:  # a server that restarts must not cost the results so far
                return self._release(shard, error, failure)
            with self._database.writing() as connection:
                return fail_audit(connection, key, attempt=attempt, failure=failure, now=self._clock())
        except Exception as error:  # the shard is tried again and in the end given up, so that the audit never hangs
            logger.exception("shard_broke")
            return self._release(shard, error, INTERNAL_ERROR)
        with self._database.writing() as connection:
            return complete_shard(
                connection,
                key,
                attempt=attempt,
                result_digest=outcome.digest,
                verdict=outcome.verdict,
                contents=outcome.contents,
                now=self._clock(),
            )

    def _release(self, shard: Shard, error: Exception, failure: Failure) -> Step:
        with self._database.writing() as connection:
            return release_shard(
                connection,
                shard.key,
                attempt=shard.attempt,
                error=f"{type(error).__name__}: {error}",
                failure=failure,
                now=self._clock(),
                max_attempts=self._settings.max_attempts,
            )

    def _announce(self, step: Step) -> None:
        if not step.opened:
            return
        try:
            self._queue.announce(step.opened)
        except QueueUnavailable as error:
            log.warning("announcement_postponed", shards=len(step.opened), reason=str(error))

    def _compute(self, shard: Shard, progress: Callable[[float], None]) -> _Outcome:
        """Compute a shard, and store its result."""
        with self._database.reading() as connection:
            audit = find_audit(connection, shard.key.audit_id)
        if audit is None:  # its audit was cancelled and deleted a moment ago
            raise AuditCancelled
        task = self._task_of(audit)
        if shard.kind == "assemble":
            return self._assemble(audit, task)
        part = ShardRange(shard.kind, shard.model, shard.start, shard.stop)
        computed = self._computer.run_shard(task, part, progress=progress, enough=lambda: False)
        result = computed.result
        _, reference = task.request.loaded_models[shard.model]
        self._speeds.remember(reference, task.plan, result, cold=computed.cold)
        contents = AuditContents(
            pictures=frozenset(picture.digest for picture in result.artifacts),
            models=frozenset({result.model.digest}),
        )
        digest = self._blobs.of(audit.tenant).put(result.model_dump_json().encode())
        return _Outcome(digest, contents=contents)

    def _task_of(self, audit: Audit) -> AuditTask:
        """The audit with its contracts read; kept while the shards that follow belong to it."""
        if self._current is None or self._current.id != audit.id:
            request = AuditRequest.model_validate_json(audit.request)
            blobs = self._blobs.of(audit.tenant)
            storage = SqlAuditStorage(
                audit.id,
                audit.tenant,
                request,
                database=self._database,
                blobs=blobs,
                access=self._settings.access,
                observed=self._observed,
            )
            self._current = AuditTask(
                id=audit.id,
                tenant=audit.tenant,
                request=request,
                plan=AuditPlan.model_validate_json(audit.plan),
                images=audit.images,
                storage=storage,
                blobs=blobs.get,
            )
        return self._current

    def _assemble(self, audit: Audit, task: AuditTask) -> _Outcome:
        """Assemble the report, and store it."""
        with self._database.reading() as connection:
            attempts = sum(shard.attempt for shard in list_shards(connection, audit.id) if shard.kind != "assemble")
        facts = AssemblyFacts(
            attempts=attempts,
            started_at=rfc3339(audit.started_at or audit.created_at),
            finished_at=rfc3339(self._clock()),
            estimated_seconds=None if audit.estimate is None else Estimate.model_validate_json(audit.estimate).seconds,
            baseline=self._baseline(audit, task),
        )
        report = self._computer.assemble(task, facts)
        return _Outcome(self._blobs.of(audit.tenant).put(report_bytes(report)), verdict=report.verdict)

    def _baseline(self, audit: Audit, task: AuditTask) -> AuditReport | None:
        """The earlier report that the conditions of an audit compare with, by the digest pinned at submit."""
        baseline = task.request.baseline
        if baseline is None or baseline.report is None:
            return None
        return read_report(self._blobs.of(audit.tenant).get(baseline.report, field="baseline.report"))
