"""A worker without Celery: this process asks the database what waits, and a child process computes it.

The child is kept by billiard, Celery's own pool, so that the same happens as with Celery when a shard takes too long,
when the child dies, and after many shards.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, final

import billiard
import structlog
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.queue.polling import Polling, WantedInspection
from auditcore_service.settings import TASKS_PER_CHILD, Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import ShardKey
from auditcore_service.tethered import tie
from auditcore_service.worker.executor_factory import build_executor
from auditcore_service.worker.presence import Presence

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

LOST_S = 1.0
"""How long billiard waits for the result of a child that has died."""


@final
class DatabaseWorker:
    """Works until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.database)
        self._polling = Polling(self._database, max_attempts=settings.max_attempts)
        self._presence = Presence()
        self._stopping = threading.Event()
        self._stopping_now = threading.Event()

    def stop(self) -> None:
        """Finish the shard that is being computed and end; called again, end at once. Safe in a signal handler."""
        if self._stopping.is_set():
            self._stopping_now.set()
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`."""
        idle, broken = SHORTEST_POLL_S, SHORTEST_PAUSE_S
        pool = _pool(self._settings)
        try:
            while not self._stopping.is_set():
                self._presence.show()
                work = self._look()
                if work is None:
                    self._stopping.wait(idle * random.uniform(0.5, 1.5))  # noqa: S311 - spreads workers, keeps no secret
                    idle = min(2 * idle, LONGEST_POLL_S)
                    continue
                idle = SHORTEST_POLL_S
                if self._compute(pool, work):
                    broken = SHORTEST_PAUSE_S
                    continue
                if not self._stopping.wait(broken):
                    broken = min(2 * broken, LONGEST_PAUSE_S)
                    # what a child that was killed has left in the pipes of its pool goes with the pool
                    pool.terminate()
                    pool = _pool(self._settings)
        finally:
            # the child is idle, or its result is no longer needed
            pool.terminate()
            pool.join()
            self._presence.end()
            self._database.close()

    def _look(self) -> ShardKey | WantedInspection | None:
        try:
            return self._polling.take()
        except SQLAlchemyError as error:
            log.warning("database_does_not_answer", reason=str(error))
            self._stopping.wait(SHORTEST_PAUSE_S)
            return None

    def _compute(self, pool: Any, work: ShardKey | WantedInspection) -> bool:  # noqa: ANN401 - billiard publishes no types
        """Have the child do it; whether the child could. How a shard ended is in the database."""
        running = pool.apply_async(_compute_in_child, (self._settings, work))
        while not running.ready():
            if self._stopping_now.is_set():
                return False
            running.wait(TICK_S)
            self._presence.show()
        try:
            claimed = running.get()
        except Exception as error:  # what the child raised, or how it died; the next shard may do better
            log.exception("child_broke", work=repr(work), reason=str(error))
            return False
        if isinstance(work, ShardKey):
            self._polling.claimed(successfully=claimed)
        return True


def work_from_database(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, which lets the shard that is being computed finish.

    A second signal ends the worker at once; another worker repeats the shard.
    """
    worker = DatabaseWorker(settings)
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


def _pool(settings: Settings) -> Any:  # noqa: ANN401 - billiard publishes no types
    return billiard.get_context("spawn").Pool(  # CUDA cannot be used in a forked child
        1,
        initializer=_warm_up,
        initargs=(settings, os.getpid()),
        maxtasksperchild=TASKS_PER_CHILD,
        soft_timeout=settings.shard_soft_limit_s,
        timeout=settings.shard_limit_s,
        lost_worker_timeout=LOST_S,
    )


@functools.cache
def _executor(settings: Settings) -> Executor:
    """The one of the child: connections do not survive being passed on."""
    return build_executor(settings)


def _warm_up(settings: Settings, worker_pid: int) -> None:
    """Open connections and start the process that computes, not when the first shard waits for it."""
    tie(worker_pid, signal.SIGKILL)
    try:
        _executor(settings)
    except Exception:  # the first shard tries again, and says what is wrong
        log.exception("warm_up_broke")


def _compute_in_child(settings: Settings, work: ShardKey | WantedInspection) -> bool:
    """Run one shard, or inspect one model; whether the shard could be claimed."""
    executor = _executor(settings)
    if isinstance(work, ShardKey):
        return executor.run(work)
    executor.inspect(work.digest)
    return True
