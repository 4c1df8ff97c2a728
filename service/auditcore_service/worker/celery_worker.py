"""The Celery worker: takes shard keys from the queue and passes them to the executor."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import structlog
from celery import Celery, Task, signals

from auditcore_service.logs import configure_logs
from auditcore_service.queue.celery_queue import INSPECT_TASK, QUEUES, TASK, ShardQueue, celery_options
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.records import ShardKey
from auditcore_service.tethered import tie
from auditcore_service.worker.working_folder import empty_working_folder

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
        """Import torch and open connections when the pool process starts, so that its first shard need not wait."""
        # billiard looks for its parent only between tasks, and importing torch may take longer than an operator waits
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
    """The executor of this pool process: connections and CUDA cannot be passed from one process to another."""
    if not hasattr(app, "executor"):
        app.executor = build_executor(app.settings)
    executor: Executor = app.executor
    return executor


def build_executor(settings: Settings) -> Executor:
    """Build everything that a process needs to run shards; this imports torch."""
    import torch  # noqa: PLC0415 - only the process that computes needs it

    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415 - imports torch
    from auditcore_service.worker.execution import Executor  # noqa: PLC0415 - imports torch

    configure_logs(settings)
    keep_freed_memory()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return Executor(
        settings,
        database=Database(settings.database),
        blobs=BlobStore(settings.blobs),
        queue=ShardQueue(settings),
    )


def run_worker(settings: Settings, *, folders: Path | None = None) -> None:
    """Run shards until SIGTERM: one pool process, all queues, in an empty working folder.

    Args:
        settings: The operator's settings.
        folders: Folder for the working folder; the one for temporary files if None.
    """
    configure_logs(settings)
    settings = settings.with_absolute_paths()
    with empty_working_folder(folders):
        database = Database(settings.database)
        database.migrate()
        database.close()
        app = WorkerApp("auditcore", settings=settings)
        worker = app.Worker(
            concurrency=1,
            queues=sorted(set(QUEUES.values())),
            hostname=f"auditcore-{os.getpid()}@{socket.gethostname()}",
            loglevel="WARNING",
            # workers need no contact with each other, because the database coordinates them
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        worker.start()


def main() -> None:
    """Run a worker of the embedded service.

    Settings come from the environment, the folder for the working folder from the command line.
    """
    run_worker(Settings(), folders=Path(sys.argv[1]))
