"""A worker in the process of the test, which computes there too."""

from __future__ import annotations

from auditcore_service.gateway.service import Service
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.in_process_computer import InProcessComputer


def worker_of(service: Service) -> Executor:
    """A worker that has loaded nothing yet."""
    return Executor(
        service.settings,
        database=service.database,
        blobs=service.blobs,
        queue=service.queue,
        computer=InProcessComputer(service.settings),
    )
