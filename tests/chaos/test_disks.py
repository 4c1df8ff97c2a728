"""Disks that are full or read-only: of the blobs, of the database, of temporary files. Needs root, for its disks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.conftest import Play, running
from chaos.deployment import Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.small_disk import SmallDisk

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount disks")

Disks = dict[str, SmallDisk]


@pytest.fixture(scope="module", params=["embedded", "scaled"])
def with_disks(folder: Path, weights: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Deployment, Disks]]:
    """A deployment with a small disk for each kind of file."""
    place = folder / f"disks-{request.param}"
    disks = {
        "blobs": SmallDisk(place / "blobs", size_bytes=2**26),
        "database": SmallDisk(place / ("data" if request.param == "embedded" else "postgres"), size_bytes=2**28),
    }
    kind = EmbeddedDeployment if request.param == "embedded" else ScaledDeployment
    deployment = kind(place, weights=weights)
    disks["temporary files"] = SmallDisk(deployment.temporary, size_bytes=2**28)
    try:
        for found in running(deployment):
            yield found, disks
    finally:
        for disk in disks.values():
            disk.remove()


@pytest.mark.parametrize("name", ["blobs", "database", "temporary files"])
def test_a_full_disk(with_disks: tuple[Deployment, Disks], play: Play, name: str) -> None:
    deployment, disks = with_disks
    with play(f"disk of the {name} full for 10 s, with 11 audits queued", deployment) as scene:
        audit_id = scene.submit("slow")
        for _ in range(5):
            scene.submit("quick")
            scene.submit("tiny")
        # a worker that is still starting would sleep through the fault
        scene.wait_running(audit_id)
        disks[name].fill()
        try:
            time.sleep(5)
            for _ in range(3):
                scene.try_submit("tiny")
            time.sleep(5)
        finally:
            disks[name].free()
            deployment.start_again()
        deployment.wait_until_ready(workers=False)
        if scene.refused:
            scene.notes.append(f"submits were answered {sorted(set(scene.refused))}")
            assert set(scene.refused) <= {"503", "507"}, scene.notes[-1]


@pytest.mark.parametrize("name", ["blobs"])
def test_a_read_only_disk(with_disks: tuple[Deployment, Disks], play: Play, name: str) -> None:
    deployment, disks = with_disks
    with play(f"disk of the {name} read-only for 10 s, with 8 audits queued", deployment) as scene:
        audit_id = scene.submit("slow")
        for _ in range(8):
            scene.submit("quick")
        scene.wait_running(audit_id)
        disks[name].make_read_only()
        try:
            time.sleep(10)
        finally:
            disks[name].make_writable()


def test_a_read_only_database(with_disks: tuple[Deployment, Disks], play: Play) -> None:
    """What a process sees that is still connected to a server that has become a standby."""
    deployment, _ = with_disks
    if not isinstance(deployment, ScaledDeployment):
        pytest.skip("SQLite has no server that becomes read-only, and a disk with open files cannot")
    with play("PostgreSQL read-only for 8 s, with 6 audits queued", deployment) as scene:
        audit_id = scene.submit("slow")
        for _ in range(6):
            scene.submit("quick")
        scene.wait_running(audit_id)
        _set_read_only(deployment, "on")
        try:
            time.sleep(4)
            scene.try_submit("tiny")
            time.sleep(4)
        finally:
            _set_read_only(deployment, "off")
        if scene.refused:
            scene.notes.append(f"submits were answered {sorted(set(scene.refused))}")
            assert set(scene.refused) == {"503"}, scene.notes[-1]


def _set_read_only(deployment: ScaledDeployment, value: str) -> None:
    with deployment.postgres.connect() as connection:
        connection.execute(f"ALTER ROLE auditcore SET default_transaction_read_only = {value}")
        # a setting of a role is for new connections
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'auditcore'")
