"""Which explainers and checks will run on a model, known at once or found by a worker. No HTTP here."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import final

import structlog
from anyio import CapacityLimiter, move_on_after, sleep, to_thread

from auditcore.contracts.canonical_json import canonical_json, sha256
from auditcore.contracts.inspection import Inspection, InspectionRequest, inspection_of
from auditcore.contracts.model_reference import ModelReference
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.resolving import resolve_model
from auditcore_service.principals import Principal
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import KEPT_S, ask_for_inspection, find_inspection, forget_inspection
from auditcore_service.store.records import Failure
from auditcore_service.use_cases.refusals import ModelRefused

log = structlog.get_logger(__name__)

FIRST_LOOK_S, LAST_LOOK_S = 0.1, 1.0
"""Intervals at which a waiting request polls for the answer: each is longer than the one before, up to the last."""

MOST_WAITING = 100
"""Requests that wait at the same time. Further ones get what is known, and ask again later."""


class InspectionFailed(Exception):
    """A worker failed while it looked at a model; the log of the workers has the traceback."""


@final
class Inspections:
    """The use case of inspections.

    Attributes:
        waiting: Requests that wait for a worker now.
    """

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
        self.waiting = 0

    async def inspect(
        self, principal: Principal, request: InspectionRequest, *, threads: CapacityLimiter | None = None
    ) -> Inspection:
        """Return what will run; if only a worker can decide, wait for it up to the operator's limit.

        While it waits it holds no thread.

        Args:
            principal: Who asks.
            request: What to look at.
            threads: Limits how many requests ask servers and registries at the same time; that of anyio if None.

        Returns:
            The complete inspection; or, with `complete` false, what is known without a worker.

        Raises:
            InputError: The model cannot be audited at all.
            ModelRefused: A worker found that the model cannot be audited at all.
            InspectionFailed: A worker failed while it looked at the model.
        """
        resolution, known = await to_thread.run_sync(self._resolve, request, limiter=threads)
        if known.complete:
            return known
        resolved = request.model_copy(update={"model": resolution.reference})
        # what one tenant has asked is no answer to another
        digest = sha256(canonical_json({"tenant": principal.tenant, "request": resolved.model_dump(mode="json")}))
        look = functools.partial(self._look, principal, digest, request, resolution.reference)
        found = await to_thread.run_sync(look)
        if found is None and self.waiting < MOST_WAITING:
            self.waiting += 1
            try:
                found = await self._wait(look)
            finally:
                self.waiting -= 1
        return known if found is None else found.model_copy(update={"facts": resolution.facts})

    async def _wait(self, look: Callable[[], Inspection | None]) -> Inspection | None:
        pause = FIRST_LOOK_S
        with move_on_after(self._settings.inspection_wait_s):
            while True:
                await sleep(pause)
                pause = min(LAST_LOOK_S, 1.3 * pause)
                found = await to_thread.run_sync(look)
                if found is not None:
                    return found
        return None

    def _resolve(self, request: InspectionRequest) -> tuple[Resolution, Inspection]:
        """The model as it is now, and what is known of it without a worker."""
        self._access.check_explainers(request.explainers)
        resolution = resolve_model(request.model, self._access)
        known = inspection_of(request, resolution.reference, resolution.capabilities, facts=resolution.facts)
        return resolution, known

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
