"""Which explainers and checks will run on a model, known at once or found by a worker. No HTTP here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

import structlog

from auditcore.contracts.canonical_json import canonical_json, sha256
from auditcore.contracts.inspection import Inspection, InspectionRequest, inspection_of
from auditcore.contracts.model_reference import ModelReference
from auditcore.sources.resolving import resolve_model
from auditcore_service.principals import Principal
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import KEPT_S, ask_for_inspection, find_inspection, forget_inspection
from auditcore_service.store.records import Failure
from auditcore_service.use_cases.refusals import ModelRefused

log = structlog.get_logger(__name__)

LOOK_S = 0.1
"""Interval at which a waiting request polls for the answer."""


class InspectionFailed(Exception):
    """A worker failed while it looked at a model; the log of the workers has the traceback."""


@final
class Inspections:
    """The use case of inspections."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        queue: ShardQueue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._access = settings.access
        self._queue = queue
        self._clock = clock

    def inspect(self, principal: Principal, request: InspectionRequest) -> Inspection:
        """Return what will run; if only a worker can decide, wait for it up to the operator's limit.

        Returns:
            The complete inspection; or, with `complete` false, what is known without a worker.

        Raises:
            InputError: The model cannot be audited at all.
            ModelRefused: A worker found that the model cannot be audited at all.
            InspectionFailed: A worker failed while it looked at the model.
        """
        self._access.check_explainers(request.explainers)
        resolution = resolve_model(request.model, self._access)
        known = inspection_of(request, resolution.reference, resolution.capabilities, facts=resolution.facts)
        if known.complete:
            return known
        resolved = request.model_copy(update={"model": resolution.reference})
        # what one tenant has asked is no answer to another
        digest = sha256(canonical_json({"tenant": principal.tenant, "request": resolved.model_dump(mode="json")}))
        deadline = time.monotonic() + self._settings.inspection_wait_s
        while True:
            found = self._look(principal, digest, request, resolution.reference)
            if found is not None:
                return found.model_copy(update={"facts": resolution.facts})
            if time.monotonic() > deadline:
                return known
            time.sleep(LOOK_S)

    def _look(
        self, principal: Principal, digest: str, request: InspectionRequest, reference: ModelReference
    ) -> Inspection | None:
        """The answer, if there is one; otherwise a worker is asked to find it."""
        now = self._clock()
        with self._database.reading(principal.tenant) as connection:
            stored = find_inspection(connection, digest)
        if stored is not None and stored.failure is not None:
            with self._database.writing(principal.tenant) as connection:
                # the next request gets another look, because the model may have been fixed
                forget_inspection(connection, digest)
            raise _refusal(stored.failure)
        if stored is not None and stored.answer is not None and now - stored.queued_at < KEPT_S:
            return Inspection.model_validate_json(stored.answer)
        if stored is None or now - stored.queued_at > self._settings.requeue_after_s:
            self._ask(principal, digest, request, reference, now=now)
        return None

    def _ask(
        self, principal: Principal, digest: str, request: InspectionRequest, reference: ModelReference, *, now: float
    ) -> None:
        with self._database.writing(principal.tenant) as connection:
            ask_for_inspection(
                connection, digest, request=request.model_dump_json(), reference=reference.model_dump_json(), now=now
            )
        try:
            self._queue.announce_inspection(digest)
        except QueueUnavailable as error:
            log.warning("inspection_postponed", reason=str(error))


def _refusal(failure: Failure) -> Exception:
    if failure.code == "internal_error":
        return InspectionFailed(failure.message)
    return ModelRefused(failure.message, code=failure.code, field=failure.field)
