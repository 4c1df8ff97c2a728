"""Workers as processes, on both queues: told to stop in the middle of a shard."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from queues import QUEUE_KINDS
from small_model import SMALL_MODEL

WORKER = "from auditcore_service.worker.process import main; main()"


@contextmanager
def worker(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "REDIS_"))}
    environment |= settings.environment()
    with subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submit(service: Service, *, images: int, grid: int, repeats: int) -> str:
    files = []
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(UploadedFile(f"{number}.png", io.BytesIO(buffer.getvalue()), f"images.{number}"))
    digest = service.batches.store(ANONYMOUS, files).digest
    request = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": digest},
        "plan": {
            "explainers": [{"kind": "gradient"}],
            "checks": [{"kind": "deletion", "grid": grid, "repeats": repeats}],
        },
    }
    return service.audits.submit(ANONYMOUS, AuditRequest.model_validate(request)).id


def shards(service: Service, audit_id: str) -> tuple[Shard, ...]:
    with service.database.reading("default") as connection:
        return list_shards(connection, audit_id)


@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_a_worker_that_cannot_finish_in_time_hands_its_shard_back_and_ends(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(drain_s=0.5, heartbeat_s=0.2)
    service = Service.of(settings)
    service.database.migrate()
    audit_id = submit(service, images=1, grid=32, repeats=100)
    service.queue.send_tickets("gpu", 1)
    with worker(settings, tmp_path) as process:
        wait_until(lambda: shards(service, audit_id)[0].state == "running")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        # half a second, and what it takes to end two processes on a busy machine
        assert process.wait(timeout=40) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    shard = shards(service, audit_id)[0]
    assert (shard.state, shard.not_before, shard.faults, shard.losses) == ("queued", None, 0, 0)
    assert list(tmp_path.glob("auditcore-*")) == []
    service.database.close()
