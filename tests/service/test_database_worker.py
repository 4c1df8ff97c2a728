"""The worker of a service without Redis, as a process: what it shows, and how it ends."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from auditcore_service.cli.worker_ping import answers
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.worker import presence
from auditcore_service.worker.presence import Presence, is_worker_present
from worker_process import shards, submit, wait_until, worker


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers of other tests on this host must not be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("own_temporary_folder")
@pytest.mark.parametrize("queue_kind", ["database"])
def test_a_worker_finishes_its_shard_and_takes_no_other(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(shard_images=1)
    service = Service.of(settings)
    service.database.migrate()
    audit_id = submit(service, images=2, grid=6)
    assert not answers(settings)
    with worker(settings) as process:
        wait_until(lambda: shards(service, audit_id)[0].state == "running")
        assert answers(settings)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert not answers(settings)
    assert [shard.state for shard in shards(service, audit_id)] == ["done", "queued", "pending"]
    service.database.close()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("own_temporary_folder")
@pytest.mark.parametrize("queue_kind", ["database"])
def test_a_second_signal_ends_a_worker_at_once(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(shard_images=1)
    service = Service.of(settings)
    service.database.migrate()
    audit_id = submit(service, images=1, grid=32)
    with worker(settings) as process:
        wait_until(lambda: shards(service, audit_id)[0].state == "running")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert shards(service, audit_id)[0].state == "running"  # until its lease runs out
    service.database.close()


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_worker_is_present_while_it_shows_itself() -> None:
    shown = Presence()
    assert not is_worker_present(silent_s=5.0)
    shown.show()
    assert is_worker_present(silent_s=5.0)
    assert not is_worker_present(silent_s=-1.0)
    shown.end()
    assert not is_worker_present(silent_s=5.0)
    shown.end()


def test_what_a_killed_worker_left_is_removed_after_a_while(own_temporary_folder: Path) -> None:
    Presence().show()
    (file,) = own_temporary_folder.glob("*/*")
    killed = file.with_name("1")
    for age, kept in ((presence.FORGET_S - 10, True), (presence.FORGET_S + 10, False)):
        killed.touch()
        os.utime(killed, (time.time() - age,) * 2)
        Presence()
        assert killed.exists() == kept


def test_a_folder_that_leads_elsewhere_is_refused(own_temporary_folder: Path, tmp_path: Path) -> None:
    (own_temporary_folder / f"auditcore-workers-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="TMPDIR"):
        Presence()
