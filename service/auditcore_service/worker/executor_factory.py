"""Builds the executor of a process that computes. Imports torch only when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from auditcore.devices.host_memory import LIMIT_SHARE, limit_memory, total_bytes
from auditcore_service.logs import configure_logs
from auditcore_service.queue.shard_queue import open_queue
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.worker.stopping import StopRequest

if TYPE_CHECKING:
    from auditcore_service.worker.execution import Executor


def build_executor(settings: Settings, stopping: StopRequest) -> Executor:
    """Everything a process needs to run shards; imports torch.

    Args:
        settings: The operator's settings.
        stopping: Whether the worker is told to stop.
    """
    import torch  # noqa: PLC0415 - only the process that computes pays for it

    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415 - imports torch
    from auditcore_service.worker.execution import Executor  # noqa: PLC0415 - imports torch
    from auditcore_service.worker.in_process_computer import (  # noqa: PLC0415 - imports torch
        InProcessComputer,
        device_of,
    )

    configure_logs(settings)
    keep_freed_memory()
    # drivers of accelerators reserve far more addresses than memory
    if device_of(settings) == "cpu":
        limit_memory(settings.memory_bytes or int(LIMIT_SHARE * total_bytes() / settings.workers))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    database = Database(settings.database)
    return Executor(
        settings,
        database=database,
        blobs=BlobStore(settings.blobs),
        queue=open_queue(settings, database),
        computer=InProcessComputer(settings),
        stopping=stopping,
        # not exit(): a thread that is busy in torch would never return
        end_process=lambda: os._exit(0),
    )
