"""Workers as processes, on both queues: told to stop in the middle of a shard."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from queues import ONE_QUEUE_IN_CI
from worker_process import shards, submit, wait_until, worker


def folders_in(place: Path) -> list[Path]:
    """Folders of workers and of what computes for them."""
    return sorted(place.glob("auditcore-*/process-*"))


@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", ONE_QUEUE_IN_CI)
def test_a_worker_that_cannot_finish_in_time_hands_its_shard_back_and_ends(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    settings = make_settings(drain_s=0.5, heartbeat_s=0.2)
    service = Service.of(settings)
    service.database.migrate()
    audit_id = submit(service, images=1, grid=32)
    service.queue.send_tickets("gpu", 1)
    with worker(settings) as process:
        wait_until(lambda: shards(service, audit_id)[0].state == "running")
        assert {one.parent.name.split("-")[1] for one in folders_in(tmp_path)} == {"worker", "compute"}
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        # half a second, and what it takes to end two processes on a busy machine
        assert process.wait(timeout=40) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    shard = shards(service, audit_id)[0]
    assert (shard.state, shard.not_before, shard.faults, shard.losses) == ("queued", None, 0, 0)
    assert folders_in(tmp_path) == []
    service.database.close()
