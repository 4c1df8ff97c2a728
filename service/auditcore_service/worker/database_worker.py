"""A worker without Celery: this process asks the database what waits, and a child process computes it.

The child is kept by billiard, Celery's own pool, so that the same happens as with Celery when a shard takes too long,
when the child dies, and after many shards.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, final

import billiard
import structlog
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.queue.polling import Polling, Ticket, WantedInspection
from auditcore_service.settings import TASKS_PER_CHILD, Settings
from auditcore_service.store.database import Database
from auditcore_service.tethered import tie
from auditcore_service.told import Told
from auditcore_service.worker.executor_factory import build_executor
from auditcore_service.worker.presence import Presence
from auditcore_service.worker.stopping import StopRequest

if TYPE_CHECKING:
    from auditcore_service.worker.execution import Executor

log = structlog.get_logger(__name__)

SHORTEST_POLL_S, LONGEST_POLL_S = 0.05, 0.5
"""Pause between two looks when nothing waits; it doubles from one to the other, and each pause is up to half longer or
shorter, so that workers do not look at the same moments. A look takes 0.5 ms on SQLite."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pause after something broke, such as the database or the child; it doubles as well."""

TICK_S = 0.5
"""How often this process shows that it is alive while its child computes."""

ENDING_S = 8.0
"""How long the child may take to end after it should have handed its shard back."""

LOST_S = 1.0
"""How long billiard waits for the result of a child that has died."""


@final
class DatabaseWorker:
    """Works until it is told to stop."""

    def __init__(self, settings: Settings, stop_request: StopRequest) -> None:
        self._settings = settings
        self._stop_request = stop_request
        self._database = Database(settings.database)
        self._polling = Polling(self._database, queues=settings.queues)
        self._presence = Presence()
        self._told = Told()

    def stop(self) -> None:
        """End after the images that are being computed; called again, end at once. Safe in a signal handler."""
        self._told.tell()
        self._stop_request.make()

    def run(self) -> None:
        """Work until `stop`."""
        idle, broken = SHORTEST_POLL_S, SHORTEST_PAUSE_S
        pool = self._pool()
        try:
            while not self._told.times:
                self._presence.show()
                work = self._look()
                if work is None:
                    self._told.wait(idle * random.uniform(0.5, 1.5))  # noqa: S311 - spreads workers, keeps no secret
                    idle = min(2 * idle, LONGEST_POLL_S)
                    continue
                idle = SHORTEST_POLL_S
                if self._compute(pool, work):
                    broken = SHORTEST_PAUSE_S
                    continue
                if not self._told.wait(broken):
                    broken = min(2 * broken, LONGEST_PAUSE_S)
                    # what a child that was killed has left in the pipes of its pool goes with the pool
                    pool.terminate()
                    pool = self._pool()
        finally:
            # the child is idle, or its result is no longer needed
            pool.terminate()
            pool.join()
            self._presence.end()
            self._database.close()

    def _look(self) -> Ticket | WantedInspection | None:
        try:
            return self._polling.take()
        except SQLAlchemyError as error:
            log.warning("database_does_not_answer", reason=str(error))
            self._told.wait(SHORTEST_PAUSE_S)
            return None

    def _compute(self, pool: Any, work: Ticket | WantedInspection) -> bool:  # noqa: ANN401 - billiard publishes no types
        """Have the child do it; whether the child could. How a shard ended is in the database."""
        running = pool.apply_async(_compute_in_child, (self._settings, self._stop_request, work))
        while not running.ready():
            # the child hands its shard back in time; what else it does need not end
            if self._told.times > 1 or self._stop_request.age_s() > self._settings.drain_s + ENDING_S:
                return False
            running.wait(TICK_S)
            self._presence.show()
        try:
            running.get()
        except Exception as error:  # what the child raised, or how it died; the next shard may do better
            log.exception("child_broke", work=repr(work), reason=str(error))
            return False
        return True

    def _pool(self) -> Any:  # noqa: ANN401 - billiard publishes no types
        return billiard.get_context("spawn").Pool(  # CUDA cannot be used in a forked child
            1,
            initializer=_warm_up,
            initargs=(self._settings, self._stop_request, os.getpid()),
            maxtasksperchild=TASKS_PER_CHILD,
            timeout=self._settings.ticket_limit_s,
            lost_worker_timeout=LOST_S,
        )


def work_from_database(settings: Settings, stop_request: StopRequest) -> None:
    """Work until SIGTERM or SIGINT, after which the images that are being computed are finished.

    A second signal ends the worker at once; another worker repeats what was not stored.

    Args:
        settings: The operator's settings.
        stop_request: Tells the child.
    """
    worker = DatabaseWorker(settings, stop_request)
    with _signals_stop(worker):
        worker.run()


@contextmanager
def _signals_stop(worker: DatabaseWorker) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_executors: list[Executor] = []
"""The one of the child: connections do not survive being passed on."""


def _executor(settings: Settings, stopping: StopRequest) -> Executor:
    if not _executors:
        _executors.append(build_executor(settings, stopping))
    return _executors[0]


def _warm_up(settings: Settings, stopping: StopRequest, worker_pid: int) -> None:
    """Open connections and start the process that computes, not when the first shard waits for it."""
    tie(worker_pid, signal.SIGKILL)
    try:
        _executor(settings, stopping)
    except Exception:  # the first shard tries again, and says what is wrong
        log.exception("warm_up_broke")


def _compute_in_child(settings: Settings, stopping: StopRequest, work: Ticket | WantedInspection) -> None:
    """Run the shard whose turn it is, or inspect one model."""
    executor = _executor(settings, stopping)
    if isinstance(work, Ticket):
        executor.run_next()
    else:
        executor.inspect(work.digest)
