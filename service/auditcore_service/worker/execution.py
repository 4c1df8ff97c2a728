"""What a worker does with a shard key: claim, compute, complete. The only part of the service that needs torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import final

import structlog
import torch
from pydantic import TypeAdapter
from sqlalchemy.exc import SQLAlchemyError

from auditcore.contracts.automatic_intervals import with_shared_intervals
from auditcore.contracts.images import BatchManifest, ImageBatchReference, ImageUris
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.speed import deviation_images
from auditcore.costs.cost_model import Estimate, model_identity, plan_identity, way_identity
from auditcore.costs.estimate import expected_passes, weight
from auditcore.costs.passes import total
from auditcore.devices.allocator import give_back_freed_memory
from auditcore.engine.inspection import inspect
from auditcore.engine.pictures import Pictures
from auditcore.engine.shard import run_shard
from auditcore.engine.shared import reduce_shared
from auditcore.errors import AuditCancelled, InputError
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import uploaded_maps
from auditcore.report.assemble import assemble
from auditcore.report.serialize import report_bytes
from auditcore.report.stopping import image_order
from auditcore.sources.fetching import read_resource
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_audit
from auditcore_service.store.batches import find_batch, freeze_image, frozen_images
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import answer_inspection, find_inspection
from auditcore_service.store.records import Audit, Failure, Shard, ShardKey, Step
from auditcore_service.store.shards import (
    abandon_shard,
    beat_shard,
    claim_shard,
    complete_shard,
    fail_audit,
    list_shards,
    release_shard,
    skip_rest,
)
from auditcore_service.store.speeds import SeenSpeed, remember_speed
from auditcore_service.store.transitions import ACTIVE, ShardKind
from auditcore_service.use_cases.stop_rules import StopRules
from auditcore_service.worker.model_cache import ModelCache

log = structlog.get_logger(__name__)

INTERNAL_ERROR = Failure(
    code="internal_error",
    message="the audit failed inside the service and is not to blame on the request; "
    "ask the operator to look at the workers' log, then submit it again",
)

INSPECTION_ERROR = Failure(
    code="internal_error",
    message="the model could not be looked at, and the request is not to blame; "
    "ask the operator to look at the workers' log, then send it again",
)

INSPECTED: TypeAdapter[ModelReference] = TypeAdapter(ModelReference)

GIVE_BACK_S = 60.0
"""Shortest time between two times that freed memory goes back to the system: what it costs stays below 1 %."""


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._queue = queue
        self._clock = clock
        self._models = ModelCache(
            size=settings.cached_models, device=device_of(settings), access=settings.access, blobs=blobs.get
        )
        self._stop_rules = StopRules(database, blobs)
        self._gave_back_at = time.monotonic()
        self._quantities: tuple[str, dict[str | None, dict[str, tuple[float, ...]]]] | None = None

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
        """Load a model and keep what will run on it; whatever breaks, somebody waits for an answer."""
        with self._database.reading() as connection:
            wanted = find_inspection(connection, digest)
        if wanted is None or wanted.answer is not None or wanted.failure is not None:
            return
        reference = INSPECTED.validate_json(wanted.reference)
        answer, failure = None, None
        try:
            request = InspectionRequest.model_validate_json(wanted.request)
            answer = inspect(self._models.get(reference, purpose=digest), request, reference).model_dump_json()
        except InputError as error:
            log.warning("inspection_refused", code=error.code, message=error.message, field=error.field)
            failure = Failure(error.code, error.message, error.field)
        except Exception:
            log.exception("inspection_broke")
            failure = INSPECTION_ERROR
        with self._database.writing() as connection:
            answer_inspection(connection, digest, answer=answer, failure=failure)

    def _end_if_decided(self, key: ShardKey, logger: structlog.stdlib.BoundLogger) -> Step:
        """Skip what a stop rule has made needless.

        Worked out from what is stored, after this shard was: if the process dies in between, whoever completes the
        next shard finds the same.
        """
        try:
            with self._database.reading() as connection:
                audit = find_audit(connection, key.audit_id)
            stop_at = None if audit is None or audit.state not in ACTIVE else self._stop_rules.stop_at(audit)
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
        """Compute, and turn every way of ending into exactly one transaction."""
        key, attempt = shard.key, shard.attempt
        try:
            with self._heartbeat(shard) as progress:
                digest, verdict = self._compute(shard, progress)
        except AuditCancelled:
            logger.info("shard_abandoned")
            with self._database.writing() as connection:
                return abandon_shard(connection, key, attempt=attempt, now=self._clock())
        except InputError as error:
            logger.warning("shard_refused", code=error.code, message=error.message, field=error.field)
            failure = Failure(error.code, error.message, error.field)
            if error.passing:  # a server that restarts must not cost the images that are done
                return self._release(shard, error, failure)
            with self._database.writing() as connection:
                return fail_audit(connection, key, attempt=attempt, failure=failure, now=self._clock())
        except Exception as error:  # whatever broke, the shard is tried again and then given up: never hung
            logger.exception("shard_broke")
            return self._release(shard, error, INTERNAL_ERROR)
        with self._database.writing() as connection:
            return complete_shard(
                connection, key, attempt=attempt, result_digest=digest, verdict=verdict, now=self._clock()
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

    @contextmanager
    def _heartbeat(self, shard: Shard) -> Iterator[Callable[[float], None]]:
        """Keep the lease in a thread of its own, so that loading a large model is no silence.

        Yields:
            The progress callback; it raises AuditCancelled once the shard is no longer wanted.
        """
        share = 0.0
        unwanted = threading.Event()
        stopped = threading.Event()
        # past its limit a shard is hung, and its lease must run out
        last_beat = time.monotonic() + self._settings.shard_limit_s

        def beat() -> None:
            while not stopped.wait(self._settings.beat_s) and time.monotonic() < last_beat:
                try:
                    with self._database.writing() as connection:
                        wanted = beat_shard(
                            connection,
                            shard.key,
                            attempt=shard.attempt,
                            progress=round(share, 3),
                            now=self._clock(),
                            lease_s=self._settings.lease_s,
                        )
                except Exception:  # a database that is away for a moment costs a beat, not the shard
                    log.exception("heartbeat_missed", audit_id=shard.key.audit_id)
                    continue
                if not wanted:
                    unwanted.set()
                    return

        def progress(value: float) -> None:
            nonlocal share
            share = min(max(value, share, 0.0), 1.0)
            if unwanted.is_set():
                raise AuditCancelled

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield progress
        finally:
            stopped.set()
            thread.join()

    def _compute(self, shard: Shard, progress: Callable[[float], None]) -> tuple[str, str | None]:
        """Digest of the stored result, and the verdict if the result is a report."""
        with self._database.reading() as connection:
            audit = find_audit(connection, shard.key.audit_id)
        if audit is None:  # the shard's foreign key says otherwise
            raise AuditCancelled
        request = AuditRequest.model_validate_json(audit.request)
        plan = AuditPlan.model_validate_json(audit.plan)
        if shard.kind == "assemble":
            return self._assemble(audit, request, plan)
        name, reference = request.references[shard.model]
        with blaming_model(name, shard.model):
            classifier = self._models.get(reference, purpose=shard.key.audit_id)
        cold = classifier.at_speed(plan.speed).calibration is None
        progress(0.0)
        order = None if request.stop is None else image_order(plan.seed, audit.images)
        indices: Sequence[int] = range(shard.start, shard.stop)
        if order is not None and shard.kind == "compute":
            indices = sorted(order[shard.start : shard.stop])
        images = self._images(audit, request, indices, progress)
        shared = self._shared_quantities(audit.id, request, plan)[name] if shard.kind == "compute" else {}
        with blaming_model(name, shard.model):
            result = run_shard(
                classifier=classifier,
                images=images,
                plan=plan,
                wave=shard.kind,
                shared=shared,
                limits=self._settings.limits,
                progress=progress,
                clock=time.perf_counter,
                micro_batch=self._settings.micro_batch,
                pictures=Pictures(images=self._settings.picture_images, put=self._blobs.put, order=order),
                model_name=name,
                deviation_images=max(0, deviation_images(audit.images) - shard.start),
                uploaded=uploaded_maps(plan, self._blobs.get),
                audit_images=audit.images,
                order=order,
            )
        self._remember_speed(reference, plan, result, cold=cold)
        self._give_back_memory()
        return self._blobs.put(result.model_dump_json().encode()), None

    def _give_back_memory(self) -> None:
        """Between shards, but not so often that short ones spend their time on it."""
        if time.monotonic() - self._gave_back_at > GIVE_BACK_S:
            give_back_freed_memory()
            self._gave_back_at = time.monotonic()

    def _remember_speed(self, reference: ModelReference, plan: AuditPlan, result: ShardResult, *, cold: bool) -> None:
        """Leave what this shard took, but for what only the first shard of a model pays, to estimates of later audits.

        One that found its model cold has calibrated it, and leaves the raw speed of the model.
        """
        used = sum(bool(record.targets) for record in result.images)
        seconds = result.cost.seconds - result.preparation_seconds
        if not used or seconds <= 0:
            return
        passes = weight(
            total(expected_passes(plan, wave=result.wave, images=used, capabilities=result.model.capabilities).values())
        )
        rates: dict[tuple[str, str], tuple[float, float]] = {}
        rates[plan_identity(plan), result.wave] = (passes, seconds)
        if cold and result.calibration is not None:
            way = way_identity(plan)
            rates[way, "forward"] = (result.calibration.forward_per_s, 1.0)
            rates[way, "gradient"] = (result.calibration.gradient_per_s, 1.0)
            rates[way, "comparison"] = (result.calibration.comparison_per_s, 1.0)
        try:
            with self._database.writing() as connection:
                for (name, wave), (done, took) in rates.items():
                    seen = SeenSpeed(
                        model=model_identity(reference),
                        device=result.cost.device,
                        plan=name,
                        wave=wave,
                        passes=done,
                        seconds=took,
                        updated_at=self._clock(),
                    )
                    remember_speed(connection, seen)
        except SQLAlchemyError:  # an estimate less exact is no reason to compute a shard again
            log.exception("speed_not_remembered")

    def _assemble(self, audit: Audit, request: AuditRequest, plan: AuditPlan) -> tuple[str, str]:
        measured = [self._measured(audit.id, plan, model=model) for model in range(len(request.references))]
        with self._database.reading() as connection:
            attempts = sum(shard.attempt for shard in list_shards(connection, audit.id) if shard.kind != "assemble")
        report = assemble(
            audit_id=audit.id,
            request=request,
            plan=plan,
            results=(*chain.from_iterable(own for own, _ in measured), *self._results(audit.id, "compute")),
            shared={name: shared for (name, _), (_, shared) in zip(request.references, measured, strict=True)},
            attempts=attempts,
            estimated_seconds=None if audit.estimate is None else Estimate.model_validate_json(audit.estimate).seconds,
            started_at=_rfc3339(audit.started_at or audit.created_at),
            finished_at=_rfc3339(self._clock()),
            image_count=audit.images,
        )
        return self._blobs.put(report_bytes(report)), report.verdict

    def _shared_quantities(
        self, audit_id: str, request: AuditRequest, plan: AuditPlan
    ) -> dict[str | None, dict[str, tuple[float, ...]]]:
        """Name of a model -> the quantities of the whole audit with which it computes.

        Read once for all shards of an audit that follow each other: no shard of the compute wave is queued before all
        shards of the measure wave are done, and results of shards that are done never change.
        """
        if self._quantities is None or self._quantities[0] != audit_id:
            measured = self._measured_quantities(audit_id, request, plan)
            self._quantities = (audit_id, with_shared_intervals(plan, measured))
        return self._quantities[1]

    def _measured_quantities(
        self, audit_id: str, request: AuditRequest, plan: AuditPlan
    ) -> dict[str | None, dict[str, tuple[float, ...]]]:
        """Name of a model -> the quantities reduced from its own measure wave."""
        return {
            name: self._measured(audit_id, plan, model=number)[1] for number, (name, _) in enumerate(request.references)
        }

    def _measured(
        self, audit_id: str, plan: AuditPlan, *, model: int
    ) -> tuple[list[ShardResult], dict[str, tuple[float, ...]]]:
        """The measure wave of one model without its samples, which may be large, and what they come to."""
        lean: list[ShardResult] = []

        def each() -> Iterator[ShardResult]:
            for result in self._results(audit_id, "measure", model=model):
                lean.append(result.model_copy(update={"shared": ()}))
                yield result

        return lean, reduce_shared(plan, each())

    def _results(self, audit_id: str, kind: ShardKind, *, model: int | None = None) -> Iterator[ShardResult]:
        """Results of one wave, of one model or all, in index order, so that nothing depends on scheduling.

        One is read at a time.
        """
        with self._database.reading() as connection:
            shards = list_shards(connection, audit_id)
        for shard in shards:
            if shard.kind == kind and shard.result_digest is not None and model in {None, shard.model}:
                yield ShardResult.model_validate_json(self._blobs.get(shard.result_digest))

    def _images(
        self, audit: Audit, request: AuditRequest, indices: Sequence[int], progress: Callable[[float], None]
    ) -> Sequence[EncodedImage]:
        """The images of these indices of the batch, in this order."""
        match request.images:
            case ImageBatchReference(digest=digest):
                with self._database.reading() as connection:
                    manifest = find_batch(connection, digest)
                if manifest is None:
                    msg = f"no image batch {digest} is stored; upload it again"
                    raise InputError(msg, field="images.digest")
                return self._batch_images(manifest, indices)
            case ImageUris() as images:
                return self._fetched_images(audit, images, indices, progress)
            case other:
                msg = f"inline images are stored as a batch at submit, got {other.kind}"
                raise TypeError(msg)

    def _batch_images(self, manifest: BatchManifest, indices: Sequence[int]) -> Sequence[EncodedImage]:
        return [
            EncodedImage(
                index, entry.name, self._blobs.get(entry.digest, field=f"images.{index}"), entry.label, entry.boxes
            )
            for index, entry in ((index, manifest.entries[index]) for index in indices)
        ]

    def _fetched_images(
        self, audit: Audit, images: ImageUris, indices: Sequence[int], progress: Callable[[float], None]
    ) -> Sequence[EncodedImage]:
        """Fetch each URI once for the audit's whole life: a retry must see the same bytes."""
        with self._database.reading() as connection:
            frozen = frozen_images(connection, audit.id)
        encoded = []
        for index in indices:
            image = images.uris[index]
            digest = frozen.get(index)
            if digest is None:
                progress(0.0)
                data = read_resource(
                    image.uri,
                    access=self._settings.access,
                    field=f"images.uris.{index}.uri",
                    limit_bytes=self._settings.image_bytes,
                    sha256=image.sha256,
                    blobs=self._blobs.get,
                )
                stored = self._blobs.put(data)
                with self._database.writing() as connection:
                    digest = freeze_image(connection, audit.id, index, stored)
            data = self._blobs.get(digest, field=f"images.uris.{index}.uri")
            encoded.append(EncodedImage(index, image.uri.rsplit("/", 1)[-1][:255], data, image.label, image.boxes))
        return encoded


def device_of(settings: Settings) -> str:
    """Where this process computes: `auto` is the first GPU if there is one."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
