"""A worker in the process of the test, which computes there too."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import structlog

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.model_reference import ModelReference
from auditcore.sources.proxies import fetch_through
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.in_process_computer import InProcessComputer


@final
class BlobsOfTenant:
    """What a compute process gets through its worker, for a test that computes in its own process."""

    def __init__(self, experiment: ExperimentTask, folder: Path) -> None:
        self._experiment = experiment
        self._folder = folder

    def open(self, uri: str, *, field: str, limit_bytes: int, sha256: str | None) -> Path:  # noqa: ARG002 - all of the protocol
        assert uri.startswith("blob:"), uri
        data = self._experiment.blobs(uri.removeprefix("blob:"))
        path = self._folder / uri.rpartition(":")[2]
        path.write_bytes(data)
        return path

    def pin(self, uri: str, *, field: str, limit_bytes: int) -> str | None:  # noqa: ARG002 - all of the protocol
        return sha256(self._experiment.blobs(uri.removeprefix("blob:")))

    def open_registry(self, reference: ModelReference) -> Path:
        raise NotImplementedError(reference)


@contextmanager
def reading_blobs(experiment: ExperimentTask) -> Iterator[None]:
    """Blobs of the tenant can be read by the whole process."""
    with TemporaryDirectory() as folder, fetch_through(BlobsOfTenant(experiment, Path(folder))):
        yield


class Computer:
    """The real one in this process, with something that happens before a stage."""

    def __init__(self, settings: Settings) -> None:
        self.real = InProcessComputer(settings)
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def before(self, experiment: ExperimentTask, stage: Stage) -> None:
        """What a test wants to happen first."""

    def run_stage(self, experiment: ExperimentTask, stage: Stage, **options: Any) -> bool:
        self.before(experiment, stage)
        with reading_blobs(experiment):
            ended = self.real.run_stage(experiment, stage, **options)
        self.done.append(stage.name if ended else f"{stage.name}, part")
        return ended


def worker_of(service: Service) -> Executor:
    """A worker that has loaded nothing yet."""
    return Executor(
        service.settings,
        database=service.database,
        blobs=service.blobs,
        queue=service.queue,
        computer=Computer(service.settings),
    )


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker that does what waits, as a process of its own would."""
    service = Service.of(settings)
    worker, over = worker_of(service), threading.Event()
    logs = structlog.get_config()
    # a command in the same process replaces standard error, and closes it while the worker may hold it
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.__stderr__))

    def work() -> None:
        while not over.is_set():
            if not worker.run_next():
                time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        structlog.configure(**logs)
        service.database.close()
