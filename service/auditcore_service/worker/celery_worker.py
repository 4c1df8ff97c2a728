"""A worker with Celery: takes shard keys from Redis and hands them to the executor."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any, final

import structlog
from celery import Celery, Task, signals

from auditcore_service.queue.celery_queue import INSPECT_TASK, TASK, celery_options
from auditcore_service.queue.shard_queue import QUEUES
from auditcore_service.settings import Settings
from auditcore_service.store.records import ShardKey
from auditcore_service.tethered import tie
from auditcore_service.worker.executor_factory import build_executor

if TYPE_CHECKING:
    from auditcore_service.worker.execution import Executor

log = structlog.get_logger(__name__)


@final
class WorkerApp(Celery):  # type: ignore[misc]  # Celery publishes no types
    """A Celery app that passes its settings and the worker's process id to the spawned pool process."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - Celery's own arguments, here and below
        settings: Settings,
        worker_pid: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, set_as_current=options.pop("set_as_current", True), **options)
        self.settings = settings
        self.worker_pid = os.getpid() if worker_pid is None else worker_pid
        self.conf.update(celery_options(settings))
        self.register_task(RunShard())
        self.register_task(InspectModel())
        signals.worker_process_init.connect(self._warm_up, weak=False, dispatch_uid="auditcore")

    def _warm_up(self, **_: object) -> None:
        """Open connections and start the process that computes, so that the first shard need not wait for it."""
        # billiard looks for its parent only between tasks
        tie(self.worker_pid, signal.SIGKILL)
        try:
            self.executor = build_executor(self.settings)
        except Exception:  # the first shard tries again, and fails with a reason that an audit can carry
            log.exception("warm_up_failed")

    def __reduce_keys__(self) -> dict[str, Any]:
        """Return what Celery pickles for a spawned child, with our own arguments, as documented by Celery."""
        return {**super().__reduce_keys__(), "settings": self.settings, "worker_pid": self.worker_pid}


@final
class RunShard(Task):  # type: ignore[misc]  # Celery publishes no types
    """Run one shard. The task always succeeds: the outcome of the shard is in the database."""

    name = TASK
    max_retries = 3
    default_retry_delay = 1

    def run(self, audit_id: str, wave: int, index: int) -> None:
        """Claim and run the shard."""
        _executor(self.app).run(ShardKey(audit_id, wave, index))


@final
class InspectModel(Task):  # type: ignore[misc]  # Celery publishes no types
    """Inspect one model. It is not retried: the client that wants the answer asks again."""

    name = INSPECT_TASK
    max_retries = 0

    def run(self, digest: str) -> None:
        """Load the model and store the answer."""
        _executor(self.app).inspect(digest)


def _executor(app: Any) -> Executor:  # noqa: ANN401 - Celery publishes no types
    """The executor of this pool process: connections cannot be passed from one process to another."""
    if not hasattr(app, "executor"):
        app.executor = build_executor(app.settings)
    executor: Executor = app.executor
    return executor


def work_from_celery(settings: Settings) -> None:
    """Work until SIGTERM: one pool process, all queues."""
    worker = WorkerApp("auditcore", settings=settings).Worker(
        concurrency=1,
        queues=sorted(set(QUEUES.values())),
        hostname=f"auditcore-{os.getpid()}@{socket.gethostname()}",
        loglevel="WARNING",
        # workers need not know each other: the database coordinates them
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
