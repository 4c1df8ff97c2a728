"""A worker with Celery: takes tickets from Redis and hands them to the executor."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any, final

import structlog
from celery import Celery, Task, signals

from auditcore_service.queue.celery_queue import INSPECT_TASK, TASK, TASK_OF_EARLIER_RELEASE, celery_options
from auditcore_service.settings import QueueName, Settings
from auditcore_service.tethered import tie
from auditcore_service.worker.executor_factory import build_executor
from auditcore_service.worker.stopping import StopRequest

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
        stopping: StopRequest | None = None,
        worker_pid: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, set_as_current=options.pop("set_as_current", True), **options)
        self.settings = settings
        self.stopping = stopping or StopRequest()
        self.worker_pid = os.getpid() if worker_pid is None else worker_pid
        self.conf.update(celery_options(settings))
        self.register_task(ClaimShard())
        self.register_task(RunShard())
        self.register_task(InspectModel())
        signals.worker_process_init.connect(self._warm_up, weak=False, dispatch_uid="auditcore")
        # sent by the handler of SIGTERM and SIGINT, before Celery waits for the task to end
        signals.worker_shutting_down.connect(self._stop, weak=False, dispatch_uid="auditcore")

    def _warm_up(self, **_: object) -> None:
        """Open connections and start the process that computes, so that the first shard need not wait for it."""
        # billiard looks for its parent only between tasks
        tie(self.worker_pid, signal.SIGKILL)
        try:
            self.executor = build_executor(self.settings, self.stopping)
        except Exception:  # the first shard tries again, and fails with a reason that an audit can carry
            log.exception("warm_up_failed")

    def _stop(self, **_: object) -> None:
        self.stopping.make()

    def __reduce_keys__(self) -> dict[str, Any]:
        """Return what Celery pickles for a spawned child, with our own arguments, as documented by Celery."""
        return {
            **super().__reduce_keys__(),
            "settings": self.settings,
            "stopping": self.stopping,
            "worker_pid": self.worker_pid,
        }


@final
class ClaimShard(Task):  # type: ignore[misc]  # Celery publishes no types
    """Run the shard whose turn it is. The task is never retried: the outcome of the shard is in the database."""

    name = TASK
    max_retries = 0

    def run(self, _queue: QueueName) -> None:
        """Claim and run the shard whose turn it is among all that this worker serves, if one waits.

        The queue of the ticket does not matter: a worker that also trains must not train while an audit waits.
        """
        _executor(self.app).run_next()


@final
class RunShard(Task):  # type: ignore[misc]  # Celery publishes no types
    """The same for a message of an earlier release, which named a shard."""

    name = TASK_OF_EARLIER_RELEASE
    max_retries = 0

    def run(self, *_key: str | int) -> None:
        """Claim and run any shard, if one waits."""
        _executor(self.app).run_next()


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
        app.executor = build_executor(app.settings, app.stopping)
    executor: Executor = app.executor
    return executor


def work_from_celery(settings: Settings, stopping: StopRequest) -> None:
    """Work until SIGTERM: one pool process, the queues of the settings.

    Args:
        settings: The operator's settings.
        stopping: Tells the pool process.
    """
    worker = WorkerApp("auditcore", settings=settings, stopping=stopping).Worker(
        concurrency=1,
        queues=sorted(set(settings.queues)),
        hostname=f"auditcore-{os.getpid()}@{socket.gethostname()}",
        loglevel="WARNING",
        # workers need not know each other: the database coordinates them
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
