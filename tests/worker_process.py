"""A worker as a process of its own, and long audits for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from small_model import SMALL_MODEL

WORKER = "from auditcore_service.worker.process import main; main()"


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which is killed at the end if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "REDIS_"))}
    environment |= settings.environment()
    with subprocess.Popen([sys.executable, "-c", WORKER], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def store_images(service: Service, images: int) -> str:
    """A batch of images of 32 pixels; its digest."""
    files = []
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(UploadedFile(f"{number}.png", io.BytesIO(buffer.getvalue()), f"images.{number}"))
    return service.batches.store(ANONYMOUS, files).digest


def submit(service: Service, *, images: int, grid: int) -> str:
    """An audit of images of 32 pixels; the finer the grid, the longer it takes."""
    request = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": store_images(service, images)},
        "plan": {
            "explainers": [{"kind": "gradient"}],
            "checks": [{"kind": "deletion", "grid": grid, "repeats": 100}],
        },
    }
    return service.audits.submit(ANONYMOUS, AuditRequest.model_validate(request)).id


def shards(service: Service, audit_id: str) -> tuple[Shard, ...]:
    """Its shards as stored."""
    with service.database.reading("default") as connection:
        return list_shards(connection, audit_id)
