"""What a worker does with a ticket: claim the shard whose turn it is, compute, complete."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import structlog
from pydantic import TypeAdapter
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST, ExperimentRequest
from auditcore.contracts.experiments.stage import REPORT, WEIGHTS
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import EndOfProcess
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.costs.cost_model import Estimate
from auditcore.errors import AuditCancelled, InputError
from auditcore.orchestration.sharding import ShardRange
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore.report.stopping import image_order
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue, kinds_of
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_audit
from auditcore_service.store.blobs import BlobStore, BlobStoreUnavailable
from auditcore_service.store.contents import NOTHING, AuditContents
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.experiment_files import find_file, list_files
from auditcore_service.store.fair_order import TRAINING_WAIT_S, claim_next, is_shard_waiting
from auditcore_service.store.inspections import answer_inspection, find_inspection
from auditcore_service.store.records import Audit, Failure, Shard, ShardKey, Step
from auditcore_service.store.shards import (
    MOST_LEFT_OUT,
    abandon_shard,
    checkpoint_of,
    claim_shard,
    complete_part,
    complete_shard,
    fail_audit,
    hand_back_shard,
    left_out_images,
    list_shards,
    postpone_shard,
    record_death,
    release_shard,
    skip_rest,
)
from auditcore_service.store.transitions import ACTIVE, LAST_KINDS, ShardKind
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.experiment_shards import ExperimentSets, stage_of
from auditcore_service.waiting_reasons import WaitingReason
from auditcore_service.worker.audit_storage import ObservationCache, SqlAuditStorage
from auditcore_service.worker.computer import AssemblyFacts, AuditTask, Cause, Computer, ComputerDied
from auditcore_service.worker.environment_errors import reason_of
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.heartbeat import Watch, heartbeat
from auditcore_service.worker.image_sets import ImageSet, ImageSets
from auditcore_service.worker.measured_speeds import MeasuredSpeeds
from auditcore_service.worker.stage_files import StageFiles
from auditcore_service.worker.stopping import StopRequest
from auditcore_service.worker.stored_images import count_images
from auditcore_service.worker.training_task import TrainingTask

log = structlog.get_logger(__name__)

STAY_S = 20.0
"""How long a worker stays with an audit while others wait: its models are loaded, and loading others takes seconds."""

TRAINING_KINDS: frozenset[ShardKind] = frozenset({"train", "finish", "stage"})

STORE_TRIES = 4
"""How often a result is stored again before its shard is postponed: with the usual waits, for ten seconds."""

LONGEST_PAUSE_S = 60.0
"""How long a worker whose environment failed holds a ticket."""

INTERRUPT_S = 3.0
"""How long a computer that is closed may take to let go of its shard."""

SOUND_S = 120.0
"""An environment that was sound for as long begins with short waits when it fails again."""

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
        stop: One past the last image, or step, that is done; of a stage that is not done, 0.
        verdict: The verdict, if the result is the report of an audit.
        report: Digest of the stored report, if the result is something else.
        weights: Digest of the stored weights, if there are any.
        contents: What it has made and loaded.
    """

    digest: str
    stop: int
    verdict: str | None = None
    report: str | None = None
    weights: str | None = None
    contents: AuditContents = NOTHING


@final
@dataclass(frozen=True)
class _Ended:
    """How work on a shard has ended.

    Attributes:
        step: The transaction.
        is_result: Whether a result was stored.
        rest: What is left of the shard, which this worker still owns.
    """

    step: Step
    is_result: bool = False
    rest: Shard | None = None


_NOT_APPLIED = Step(applied=False)


def death_of_model(cause: Cause, times: int) -> Failure:
    """What an audit fails with when a model ends every process that loads it, or the report cannot be assembled.

    Args:
        cause: How the process ended.
        times: How often it did.
    """
    code = "memory_exhausted" if cause == "memory" else "model_kills_worker"
    return Failure(
        code,
        f"the process that loads the model {_HOW[cause]}, {times} times; use a smaller model, or ask the operator to "
        "look at the logs of the workers",
        "model",
    )


def death_of_training(cause: Cause, times: int, kind: ShardKind) -> Failure:
    """What a training or an experiment fails with when it ends every process that trains.

    Args:
        cause: How the process ended.
        times: How often it did.
        kind: Of the shard. An experiment has several trainings, and a remedy names no model.
    """
    code = "memory_exhausted" if cause == "memory" else "model_kills_worker"
    return Failure(
        code,
        f"the process that trains {_HOW[cause]}, {times} times; use a smaller `batch_size` or a smaller model, or ask "
        "the operator to look at the logs of the workers",
        "plan" if kind == "stage" else "plan.batch_size" if cause == "memory" else "model",
    )


def deaths_of_images(cause: Cause) -> Failure:
    """What an audit fails with when leaving out images does not help.

    Args:
        cause: How the process ended the last time.
    """
    return Failure(
        "worker_lost",
        f"the process that computes {_HOW[cause]}, again and again, also after {MOST_LEFT_OUT} images that seemed to "
        "be the cause were left out; use fewer samples or a smaller model, or ask the operator to look at the logs of "
        "the workers",
    )


_HOW: Mapping[Cause, str] = {
    "killed": "ended without saying why",
    "memory": "needed more memory than it may have",
    "time_limit": "took longer than it may",
}

LEFT_OUT_CODES: Mapping[Cause, EndOfProcess] = {
    "killed": "ended_process",
    "memory": "memory_exhausted",
    "time_limit": "time_limit",
}
"""How the process ended -> code with which an image is listed as excluded."""


_LEFT_OUT = TypeAdapter(dict[int, EndOfProcess])


def _sets(request: TrainingRequest | ExperimentRequest, training: int, validation: int) -> Sequence[ImageSet]:
    """The images to train on, and after them those for validation, if they are given apart."""
    images = ImageSet(request.images, training, "images")
    if isinstance(request.validation, HeldOut):
        return (images,)
    return images, ImageSet(request.validation, validation, "validation")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


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
        stopping: StopRequest | None = None,
        end_process: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put the parts together; nothing is opened yet.

        Args:
            settings: The operator's settings.
            database: Holds audits and shards.
            blobs: Holds images and results.
            queue: Hears of shards that are opened.
            computer: Computes.
            stopping: Whether the worker is told to stop; never if None.
            end_process: Ends this process, whose pool then starts another; None where nothing may end it.
            clock: Seconds, monotonic; says how long ago this worker worked on a training.
        """
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._queue = queue
        self._computer = computer
        self._stopping = stopping or StopRequest()
        self._end_process = end_process
        self._clock = clock
        self._trained_at: float | None = None
        self._stays_with: str | None = None
        self._stays_until = 0.0
        self._suspected: WaitingReason | None = None
        self._suspected_at = -SOUND_S
        self._suspicions = 0
        self._speeds = MeasuredSpeeds(database, time.time)
        self._observed = ObservationCache()
        self._current: AuditTask | None = None
        self._kinds = kinds_of(*settings.queues)

    def run_next(self, kinds: Sequence[ShardKind] | None = None) -> bool:
        """Claim the shard whose turn it is, and bring it to an end, whatever happens.

        Args:
            kinds: Kinds of shards that may be claimed; those of the worker's queues if None.

        Returns:
            Whether there was a shard to claim, and the environment to compute it.
        """
        if self._stopping.is_made() or not self._is_environment_sound():
            return False
        stay_with = self._stays_with if time.monotonic() < self._stays_until else None
        rested = self._trained_at is None or self._clock() - self._trained_at >= TRAINING_WAIT_S
        shard = self._claim(
            lambda connection, now: claim_next(
                connection,
                kinds=kinds or self._kinds,
                now=now,
                lease_s=self._settings.lease_s,
                stay_with=stay_with,
                may_put_training_first=rested,
            )
        )
        if shard is None:
            return False
        if shard.kind in TRAINING_KINDS:
            # between its parts audits have their turn
            self._stays_with = None
        elif shard.key.audit_id != stay_with:
            self._stays_with, self._stays_until = shard.key.audit_id, time.monotonic() + STAY_S
        self._run(shard)
        if shard.kind in {"train", "stage"}:
            self._trained_at = self._clock()
        return True

    def run(self, key: ShardKey) -> bool:
        """Claim one shard by its name and bring it to an end.

        Returns:
            Whether the shard could be claimed. One that is done, cancelled, running elsewhere or has to wait is left as
            it is.
        """
        shard = self._claim(
            lambda connection, now: claim_shard(connection, key, now=now, lease_s=self._settings.lease_s)
        )
        if shard is None:
            log.info("shard_not_claimable", audit_id=key.audit_id, wave=key.wave, index=key.index)
            return False
        self._run(shard)
        return True

    def _claim(self, claim: Callable[[Connection, float], Shard | None]) -> Shard | None:
        try:
            with self._database.writing() as connection:
                return claim(connection, database_time(connection))
        except Exception as error:
            # nothing was claimed, and the sweeper sends another ticket
            if reason_of(error) != "database":
                raise
            log.warning("claim_postponed", reason=str(error))
            self._suspect("database")
            return None

    def _run(self, shard: Shard) -> None:
        """Compute a claimed shard, part by part, as long as it is this worker's."""
        started = time.monotonic()
        going_on: Shard | None = shard
        while going_on is not None:
            logger = log.bind(
                audit_id=shard.key.audit_id,
                wave=shard.key.wave,
                index=shard.key.index,
                kind=shard.kind,
                attempt=shard.attempt,
            )
            logger.info("shard_started", start=going_on.start, stop=going_on.stop)
            part_started = time.monotonic()
            ended = self._attempt(going_on, logger)
            seconds = round(time.monotonic() - part_started, 3)
            logger.info("shard_ended", applied=ended.step.applied, seconds=seconds, complete=ended.rest is None)
            self._announce(ended.step)
            if ended.is_result and shard.kind == "compute":
                self._announce(self._end_if_decided(shard.key, logger))
            going_on = ended.rest
            if going_on is not None and self._is_turn_over(going_on, started):
                self._hand_back(going_on, logger)
                going_on = None

    def _is_turn_over(self, shard: Shard, started: float) -> bool:
        """Whether a worker hands back what is left of its shard: it has to stop, or others have waited long enough."""
        worked_s = time.monotonic() - started
        if self._stopping.is_made() or worked_s > self._settings.shard_limit_s / 2:
            return True
        # a training makes room for audits after each part, and for another training after some time
        others = self._kinds
        if worked_s < STAY_S:
            if shard.kind not in TRAINING_KINDS:
                return False
            others = tuple(kind for kind in self._kinds if kind not in TRAINING_KINDS)
        try:
            with self._database.reading() as connection:
                now = database_time(connection)
                return is_shard_waiting(connection, kinds=others, now=now, besides=shard.key.audit_id)
        except SQLAlchemyError:  # it may go on
            return False

    def _hand_back(self, shard: Shard, logger: structlog.stdlib.BoundLogger) -> None:
        step = self._settle(
            lambda connection, now: hand_back_shard(connection, shard.key, attempt=shard.attempt, now=now)
        )
        logger.info("shard_handed_back", start=shard.start, stop=shard.stop, applied=step.applied)
        self._announce(step)

    def _settle(self, change: Callable[[Connection, float], Step]) -> Step:
        """Write how something ended; while the database is away, try again, so that no result is lost.

        If another worker owns the shard by then, the change is not applied. What is given up when the worker has to
        stop is done again after the lease.
        """
        times = 0
        started = time.monotonic()
        while True:
            try:
                with self._database.writing() as connection:
                    return change(connection, database_time(connection))
            except Exception as error:
                over = self._stopping.age_s() >= self._settings.drain_s
                if over or time.monotonic() - started > self._settings.shard_limit_s or reason_of(error) != "database":
                    raise
                times += 1
                log.warning("outcome_waits_for_database", tries=times, reason=str(error))
                # the sweeper watches a lease for its whole length after the database is back
                time.sleep(min(self._settings.environment_backoff.wait_s(times), self._settings.lease_s / 4))

    def _is_environment_sound(self) -> bool:
        """Whether this worker may claim; one whose environment failed first waits until it answers again.

        Without this, a worker that cannot store anything would take everything that waits, again and again. A ticket
        that it holds meanwhile is replaced by the sweeper.
        """
        until = time.monotonic() + LONGEST_PAUSE_S
        while self._suspected is not None:
            self._suspicions += 1
            if self._stopping.wait(self._settings.environment_backoff.wait_s(self._suspicions)):
                return False
            try:
                self._database.check()
                self._blobs.check()
            except Exception as error:  # noqa: BLE001 - it is the environment's: nothing is computed here
                log.warning("worker_waits", reason=self._suspected, error=f"{type(error).__name__}: {error}")
                if time.monotonic() > until:
                    return False
            else:
                log.info("worker_goes_on", reason=self._suspected)
                self._suspected = None
        return True

    def _suspect(self, reason: WaitingReason) -> None:
        if self._suspected is None and time.monotonic() - self._suspected_at > SOUND_S:
            self._suspicions = 0
        self._suspected, self._suspected_at = reason, time.monotonic()

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
                now = database_time(connection)
                step = skip_rest(connection, key.audit_id, wave=key.wave, start=stop_at, now=now)
        except Exception:  # a look that fails costs images, not the audit
            logger.exception("stop_rule_broke")
            return Step(applied=False)
        logger.info("audit_decided", images=stop_at, applied=step.applied)
        return step

    def _attempt(self, shard: Shard, logger: structlog.stdlib.BoundLogger) -> _Ended:
        """Compute a part of a shard, or all of it. Every outcome becomes exactly one transaction."""
        key, attempt = shard.key, shard.attempt
        with heartbeat(
            shard,
            database=self._database,
            settings=self._settings,
            stopping=self._stopping,
            on_overrun=lambda watch: self._end_from_outside(shard, watch),
        ) as watch:
            try:
                outcome = self._compute(shard, watch)
            except Exception as error:  # noqa: BLE001 - each kind has its own way to go on, so no audit ever hangs
                if watch.overrun is not None:
                    return _Ended(_NOT_APPLIED)
                return _Ended(self._settle_failure(shard, error, logger))
            if outcome.stop < shard.stop:
                return self._settle_part(shard, outcome)
            step = self._settle(
                lambda connection, now: complete_shard(
                    connection,
                    key,
                    attempt=attempt,
                    result_digest=outcome.digest,
                    verdict=outcome.verdict,
                    report_digest=outcome.report,
                    weights_digest=outcome.weights,
                    contents=outcome.contents,
                    now=now,
                )
            )
            return _Ended(step, is_result=step.applied)

    def _settle_part(self, shard: Shard, outcome: _Outcome) -> _Ended:
        # told to stop before the first image was done, or in the middle of a stage, which has kept what is done
        if outcome.stop <= shard.start:
            return _Ended(
                self._settle(
                    lambda connection, now: hand_back_shard(connection, shard.key, attempt=shard.attempt, now=now)
                )
            )
        step = self._settle(
            lambda connection, now: complete_part(
                connection,
                shard.key,
                attempt=shard.attempt,
                stop=outcome.stop,
                result_digest=outcome.digest,
                contents=outcome.contents,
                now=now,
                lease_s=self._settings.lease_s,
            )
        )
        return _Ended(step, is_result=step.applied, rest=replace(shard, start=outcome.stop) if step.applied else None)

    def _settle_failure(self, shard: Shard, error: Exception, logger: structlog.stdlib.BoundLogger) -> Step:
        """Write why a shard could not be computed: cancelled, refused, postponed, or its own fault."""
        key, attempt = shard.key, shard.attempt
        if isinstance(error, AuditCancelled):
            logger.info("shard_abandoned")
            return self._settle(lambda connection, now: abandon_shard(connection, key, attempt=attempt, now=now))
        if isinstance(error, ComputerDied):
            logger.warning("computer_died", cause=error.cause, loading=error.loading, reason=str(error))
            return self._settle_death(shard, error)
        if isinstance(error, InputError):
            logger.warning("shard_refused", code=error.code, message=error.message, field=error.field)
            failure = Failure(error.code, error.message, error.field)
            if error.passing:  # a server that restarts must not cost the results so far
                return self._postpone(shard, "resource", error, failure)
            return self._settle(
                lambda connection, now: fail_audit(connection, key, attempt=attempt, failure=failure, now=now)
            )
        reason = reason_of(error)
        if reason is not None:
            logger.warning("shard_postponed", waiting_for=reason, error=_text(error))
            self._suspect(reason)
            return self._postpone(shard, reason, error)
        logger.error("shard_broke", exc_info=error)
        return self._release(shard, _text(error), INTERNAL_ERROR)

    def _postpone(self, shard: Shard, reason: WaitingReason, error: Exception, failure: Failure | None = None) -> Step:
        return self._settle(
            lambda connection, now: postpone_shard(
                connection,
                shard.key,
                attempt=shard.attempt,
                waiting_for=reason,
                error=_text(error),
                now=now,
                backoff=self._settings.environment_backoff,
                patience_s=None if failure is None else self._settings.patience_s,
                failure=failure,
            )
        )

    def _release(self, shard: Shard, error: str, failure: Failure) -> Step:
        return self._settle(
            lambda connection, now: release_shard(
                connection,
                shard.key,
                attempt=shard.attempt,
                error=error,
                failure=failure,
                now=now,
                max_attempts=self._settings.max_attempts,
                backoff=self._settings.fault_backoff,
            )
        )

    def _settle_death(self, shard: Shard, error: ComputerDied) -> Step:
        """Write that the process which computed is gone: because of the model, or of an image yet to be found."""
        if shard.kind in TRAINING_KINDS:
            failure = death_of_training(error.cause, self._settings.max_attempts, shard.kind)
            return self._release(shard, _text(error), failure)
        if error.loading or shard.kind in LAST_KINDS:
            return self._release(shard, _text(error), death_of_model(error.cause, self._settings.max_attempts))
        return self._settle(
            lambda connection, now: record_death(
                connection,
                shard.key,
                attempt=shard.attempt,
                error=_text(error),
                code=LEFT_OUT_CODES[error.cause],
                failure=deaths_of_images(error.cause),
                now=now,
                max_attempts=self._settings.max_attempts,
                backoff=self._settings.fault_backoff,
            )
        )

    def _end_from_outside(self, shard: Shard, watch: Watch) -> None:
        """Take a shard out of the hands of the thread that computes it, and end what it computes with.

        Called by the thread that watches. Whatever the other thread still finds out comes too late.
        """
        logger = log.bind(audit_id=shard.key.audit_id, wave=shard.key.wave, index=shard.key.index)
        try:
            if watch.overrun == "stop":
                self._hand_back(shard, logger)
            else:
                limit_s = self._settings.shard_limit_s
                died = ComputerDied(f"it took longer than {limit_s:.0f} s", cause="time_limit", loading=not watch.begun)
                logger.warning("shard_took_too_long", limit_s=limit_s, loading=died.loading)
                self._announce(self._settle_death(shard, died))
        except Exception:  # its lease runs out
            logger.exception("shard_not_handed_back")
        self._computer.close()
        # a closed computer takes no further order, and the thread that waits for it may be stuck elsewhere
        if self._end_process is not None and (watch.overrun == "time_limit" or not watch.left.wait(INTERRUPT_S)):
            self._end_process()

    def _announce(self, step: Step) -> None:
        if not step.opened:
            return
        try:
            self._queue.announce(step.opened)
        except QueueUnavailable as error:
            log.warning("announcement_postponed", shards=len(step.opened), reason=str(error))

    def _compute(self, shard: Shard, watch: Watch) -> _Outcome:
        """Compute a shard or its first images, and store the result."""
        with self._database.reading() as connection:
            audit = find_audit(connection, shard.key.audit_id, kind=None)
        if audit is None:  # its audit was cancelled and deleted a moment ago
            raise AuditCancelled
        if shard.kind == "train":
            return self._train(audit, shard, watch)
        if shard.kind == "finish":
            return self._finish(audit)
        if shard.kind == "stage":
            return self._do_stage(audit, shard, watch)
        task = self._task_of(audit)
        if shard.kind == "assemble":
            return self._assemble(audit, task)
        part = ShardRange(shard.kind, shard.model, shard.start, shard.stop)
        due = time.monotonic() + self._settings.checkpoint_s
        computed = self._computer.run_shard(
            task,
            part,
            progress=watch.progress,
            enough=lambda: time.monotonic() >= due or self._stopping.is_made(),
            left_out=self._left_out(audit, task, shard),
        )
        result = computed.result
        _, reference = task.request.loaded_models[shard.model]
        self._speeds.remember(reference, task.plan, result, cold=computed.cold)
        contents = AuditContents(
            pictures=frozenset(picture.digest for picture in result.artifacts),
            models=frozenset({result.model.digest}),
        )
        digest = self._store(audit.tenant, result.model_dump_json().encode())
        return _Outcome(digest, stop=computed.stop, contents=contents)

    def _train(self, training: Audit, shard: Shard, watch: Watch) -> _Outcome:
        """Take steps of a training, and store the checkpoint after the last of them."""
        due = time.monotonic() + self._settings.checkpoint_s
        task = self._training_of(training)
        done = self._computer.train(
            task,
            shard.start,
            progress=watch.progress,
            enough=lambda: time.monotonic() >= due or self._stopping.is_made(),
        )
        self._speeds.remember_training(task.request, done)
        # images that cannot be decoded make fewer steps than the shard has
        stop = shard.stop if done.ended else min(done.stop, shard.stop - 1)
        return _Outcome(self._store(training.tenant, done.checkpoint), stop=stop)

    def _finish(self, training: Audit) -> _Outcome:
        """Make the report of a training and its weights, and store both."""
        with self._database.reading() as connection:
            attempts = sum(shard.attempt for shard in list_shards(connection, training.id) if shard.kind == "train")
        made = self._computer.finish(self._training_of(training), attempts=attempts)
        weights = self._store(training.tenant, made.weights)
        report = self._store(training.tenant, canonical_json(made.report))
        contents = AuditContents(models=frozenset({made.report.start.digest}))
        return _Outcome(report, stop=1, weights=weights, contents=contents)

    def _training_of(self, training: Audit) -> TrainingTask:
        """The training with its contract read."""
        request = TrainingRequest.model_validate_json(training.request)
        blobs = self._blobs.of(training.tenant)
        with self._database.reading(training.tenant) as connection:
            images = count_images(connection, request.images)
        return TrainingTask(
            id=training.id,
            tenant=training.tenant,
            request=request,
            training_images=images,
            validation_images=training.images - images,
            storage=ImageSets(
                training.id,
                training.tenant,
                _sets(request, images, training.images - images),
                database=self._database,
                blobs=blobs,
                access=self._settings.access,
            ),
            checkpoint=lambda: self._checkpoint(training),
            blobs=blobs.get,
        )

    def _checkpoint(self, training: Audit) -> bytes:
        with self._database.reading() as connection:
            digest = checkpoint_of(connection, training.id)
        if digest is None:  # the training was cancelled a moment ago
            raise AuditCancelled
        return self._blobs.of(training.tenant).get(digest, field="checkpoint")

    def _do_stage(self, experiment: Audit, shard: Shard, watch: Watch) -> _Outcome:
        """Do a stage of an experiment, or go on with it until it is enough for now."""
        request = EXPERIMENT_REQUEST.validate_json(experiment.request)
        stage = stage_of(request, shard.key.wave, shard.key.index)
        started = time.monotonic()
        due = started + self._settings.checkpoint_s

        def enough() -> bool:
            nonlocal due
            if self._stopping.is_made():
                return True
            # a stage that was left before it had kept anything would begin anew, again and again
            if time.monotonic() < due or not files.has_new:
                return False
            due = time.monotonic() + self._settings.checkpoint_s
            return self._is_turn_over(shard, started)

        files = StageFiles(
            shard,
            stage.name,
            database=self._database,
            blobs=self._blobs.of(experiment.tenant),
            store=functools.partial(self._store, experiment.tenant),
        )
        task = self._experiment_of(experiment, request, files)
        if not self._computer.run_stage(task, stage, progress=watch.progress, enough=enough):
            return _Outcome("", stop=shard.start)
        with self._database.reading() as connection:
            kept = {
                file.name: file.digest for file in list_files(connection, experiment.id) if file.stage == stage.name
            }
        result = self._store(experiment.tenant, json.dumps({"stage": stage.name, "files": kept}).encode())
        if stage != stages_of(request)[-1]:
            return _Outcome(result, stop=shard.stop)
        report = kept.get(REPORT)
        if report is None:
            msg = f"the last stage {stage.name!r} has kept no {REPORT}"
            raise RuntimeError(msg)
        with self._database.reading() as connection:
            weights = find_file(connection, experiment.id, WEIGHTS)
        return _Outcome(result, stop=shard.stop, report=report, weights=None if weights is None else weights.digest)

    def _experiment_of(self, experiment: Audit, request: ExperimentRequest, files: StageFiles) -> ExperimentTask:
        """The experiment with its contracts read, for the stage that keeps these files."""
        blobs = self._blobs.of(experiment.tenant)
        sets = ExperimentSets.model_validate_json(experiment.plan)
        failed = None
        if isinstance(request, RemedyRequest) and request.report is not None:
            failed = read_report(blobs.get(request.report, field="audit"))
        tested = request.test if isinstance(request, StudyRequest) else sets.audited
        images = list(_sets(request, sets.training, sets.validation))
        if tested is not None:
            images.append(ImageSet(tested, sets.test, "test" if isinstance(request, StudyRequest) else "audit"))
        return ExperimentTask(
            id=experiment.id,
            tenant=experiment.tenant,
            request=request,
            training_images=sets.training,
            validation_images=sets.validation,
            test_images=sets.test,
            failed=failed,
            storage=ImageSets(
                experiment.id,
                experiment.tenant,
                images,
                database=self._database,
                blobs=blobs,
                access=self._settings.access,
            ),
            kept=files,
            blobs=blobs.get,
        )

    def _left_out(self, audit: Audit, task: AuditTask, shard: Shard) -> dict[int, EndOfProcess]:
        """The images of a shard's model that are left out, in the counting of the batch, with their codes."""
        with self._database.reading() as connection:
            found = left_out_images(connection, audit.id, shard.model)
        if not found:
            return {}
        order = range(audit.images) if task.request.stop is None else image_order(task.plan.seed, audit.images)
        codes = {order[one.position] if one.kind == "compute" else one.position: one.code for one in found}
        return _LEFT_OUT.validate_python(codes)

    def _store(self, tenant: str, data: bytes) -> str:
        """Store a result. A store that fails for a moment must not cost what was computed."""
        times = 0
        while True:
            try:
                return self._blobs.of(tenant).put(data)
            except BlobStoreUnavailable as error:
                times += 1
                if times > STORE_TRIES:
                    raise
                log.warning("result_waits_for_blob_store", tries=times, reason=str(error))
                if self._stopping.wait(self._settings.environment_backoff.wait_s(times)):
                    raise

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
            now = database_time(connection)
        facts = AssemblyFacts(
            attempts=attempts,
            started_at=rfc3339(audit.started_at or audit.created_at),
            finished_at=rfc3339(now),
            estimated_seconds=None if audit.estimate is None else Estimate.model_validate_json(audit.estimate).seconds,
            baseline=self._baseline(audit, task),
        )
        report = self._computer.assemble(task, facts)
        return _Outcome(self._store(audit.tenant, report_bytes(report)), stop=audit.images, verdict=report.verdict)

    def _baseline(self, audit: Audit, task: AuditTask) -> AuditReport | None:
        """The earlier report that the conditions of an audit compare with, by the digest pinned at submit."""
        baseline = task.request.baseline
        if baseline is None or baseline.report is None:
            return None
        return read_report(self._blobs.of(audit.tenant).get(baseline.report, field="baseline.report"))
