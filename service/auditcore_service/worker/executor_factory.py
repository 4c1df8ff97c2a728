"""Builds the executor of a worker, and starts the process that computes for it. Imports no torch."""

from __future__ import annotations

import os

from auditcore_service.logs import configure_logs
from auditcore_service.queue.shard_queue import open_queue
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.worker.compute_process import ComputeProcess
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.sandbox.enforcement import hide_process
from auditcore_service.worker.stopping import StopRequest


def build_executor(settings: Settings, stopping: StopRequest) -> Executor:
    """Everything a worker needs to run shards. The process that computes imports torch meanwhile.

    Args:
        settings: The operator's settings.
        stopping: Whether the worker is told to stop.
    """
    configure_logs(settings)
    # the process that computes is of the same user
    hide_process()
    computer = ComputeProcess(settings)
    computer.start()
    database = Database(settings.database)
    return Executor(
        settings,
        database=database,
        blobs=BlobStore(settings.blobs),
        queue=open_queue(settings, database),
        computer=computer,
        stopping=stopping,
        # not exit(): a thread that waits for the network would not return
        end_process=lambda: os._exit(0),
    )
