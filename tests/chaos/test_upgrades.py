"""Upgrade and rollback with audits in flight."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.conftest import running
from chaos.deployment import ScaledDeployment
from chaos.record import Record
from chaos.scene import scenario, until
from chaos.versions import REPOSITORY, earlier_version, unpack, use

COMMIT = earlier_version()
pytestmark = pytest.mark.skipif(COMMIT is None, reason="a clone without history has no earlier version")

STOP_S = 90.0


@pytest.fixture
def earlier(folder: Path, weights: Path) -> Iterator[tuple[ScaledDeployment, Path]]:
    """A deployment that runs the earlier version, and the source of it."""
    assert COMMIT is not None
    source = unpack(COMMIT, folder / "earlier")
    deployment = ScaledDeployment(folder / "upgrade", weights=weights)
    for process in (*deployment.gateways, *deployment.workers):
        use(process, source)
    for found in running(deployment):
        yield found, source


def test_upgrade_and_rollback(earlier: tuple[ScaledDeployment, Path], record: Record) -> None:
    """One process after the other is replaced. An earlier version that is started on the newer database may refuse."""
    deployment, source = earlier
    # reports name the version that wrote them, so they are not compared
    with scenario(f"upgrade from {str(COMMIT)[:7]}, rollback, upgrade", deployment, record, {}) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.05)
        for process in (*deployment.gateways, *deployment.workers):
            process.stop(STOP_S)
            use(process, REPOSITORY)
            process.start()
            deployment.wait_until_ready(workers=False)
            scene.submit("tiny")
        back = scene.submit("slow")
        scene.wait_running(back, above=0.05)
        for process in (deployment.workers[0], deployment.gateways[1]):
            process.stop(STOP_S)
            use(process, source)
            process.start()
        time.sleep(15)
        kept = [process.name for process in (deployment.workers[0], deployment.gateways[1]) if process.is_alive]
        scene.notes.append(f"the earlier version on the newer database: {', '.join(kept) or 'none'} started")
        for process in (deployment.workers[0], deployment.gateways[1]):
            if process.is_alive:
                process.stop(STOP_S)
            use(process, REPOSITORY)
            process.start()
        deployment.wait_until_ready()
        scene.submit("quick", gateway=1)
        until(lambda: deployment.client.get("/readyz").status_code == 200, seconds=30, what="the gateway")
