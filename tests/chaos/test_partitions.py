"""Network partitions between hosts: of a worker, of the gateway, one-way, and lost packets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.conftest import Play, running
from chaos.deployment import LEASE_S
from chaos.hosts_deployment import HostsDeployment
from chaos.network import can_make_networks

pytestmark = pytest.mark.skipif(not can_make_networks(), reason="needs root, ip netns and nft")

SHORT_S, LONG_S = LEASE_S / 3, 3 * LEASE_S


@pytest.fixture(scope="module")
def hosts(folder: Path, weights: Path) -> Iterator[HostsDeployment]:
    yield from running(HostsDeployment(folder / "hosts", weights=weights))


@pytest.mark.parametrize("seconds", [SHORT_S, LONG_S], ids=["shorter-than-the-lease", "longer-than-the-lease"])
@pytest.mark.parametrize("other", ["database", "queue"])
def test_a_worker_is_cut_off(hosts: HostsDeployment, play: Play, other: str, seconds: float) -> None:
    """From the database but not from the queue, and the reverse."""
    with play(f"no packets between a worker and the {other} for {seconds:g} s", hosts) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        hosts.network.cut(f"worker-{scene.busy_worker()}", other)
        time.sleep(seconds)
        hosts.network.heal()


@pytest.mark.parametrize(("sender", "receiver"), [("worker", "database"), ("database", "worker")])
def test_one_way(hosts: HostsDeployment, play: Play, sender: str, receiver: str) -> None:
    with play(f"no packets from {sender} to {receiver} for {LONG_S:g} s, all of them back", hosts) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        worker = f"worker-{scene.busy_worker()}"
        hosts.network.cut_one_way(*(worker if name == "worker" else name for name in (sender, receiver)))
        time.sleep(LONG_S)
        hosts.network.heal()


def test_a_worker_is_cut_off_from_both(hosts: HostsDeployment, play: Play) -> None:
    with play(f"no packets between a worker and all others for {LONG_S:g} s", hosts) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        worker = f"worker-{scene.busy_worker()}"
        for other in ("database", "queue", "gateway"):
            hosts.network.cut(worker, other)
        time.sleep(LONG_S)
        hosts.network.heal()


@pytest.mark.parametrize("other", ["database", "queue"])
def test_the_gateway_is_cut_off(hosts: HostsDeployment, play: Play, other: str) -> None:
    with play(f"no packets between the gateway and the {other} for {LONG_S:g} s", hosts) as scene:
        scene.submit("slow")
        scene.submit("waves")
        hosts.network.cut("gateway", other)
        try:
            started = time.monotonic()
            accepted = scene.try_submit("tiny", timeout=20)
            took = time.monotonic() - started
            scene.notes.append(
                f"a submit was {'accepted' if accepted else f'answered {scene.refused[0]}'} after {took:.1f} s"
            )
            time.sleep(max(0.0, LONG_S - took))
        finally:
            hosts.network.heal()
        # without the queue audits are accepted, and without the database they are refused soon
        assert (accepted is not None) == (other == "queue"), scene.notes[-1]
        assert took < 15, scene.notes[-1]


def test_lost_packets(hosts: HostsDeployment, play: Play) -> None:
    with play("a fifth of all packets of both workers is lost for 15 s", hosts) as scene:
        scene.submit("slow")
        scene.submit("waves")
        scene.submit("tiny")
        for worker in ("worker-0", "worker-1"):
            hosts.network.lose(worker, percent=20)
        time.sleep(15)
        hosts.network.heal()
