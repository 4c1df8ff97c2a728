"""Connections that are cut, that hang open, that are slow or pass one way, and clients that send half a request."""

from __future__ import annotations

import socket
import time

import pytest

from chaos.conftest import Play
from chaos.deployment import LEASE_S, ScaledDeployment
from chaos.scene import until

SHORT_S, LONG_S = LEASE_S / 3, 3 * LEASE_S


@pytest.mark.parametrize("seconds", [SHORT_S, LONG_S], ids=["shorter-than-the-lease", "longer-than-the-lease"])
@pytest.mark.parametrize("to", ["database", "queue"])
def test_a_worker_is_cut(scaled: ScaledDeployment, play: Play, to: str, seconds: float) -> None:
    """Connections are closed and refused: the host is up, the program is not."""
    with play(f"connections of a worker to the {to} refused for {seconds:g} s", scaled) as scene:
        # the database is what says whose a shard is
        scene.nothing_repeated = to == "queue"
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        line = scaled.lines[f"worker-{scene.busy_worker()}", to]
        line.cut()
        time.sleep(seconds)
        line.heal()


@pytest.mark.parametrize("to", ["database", "queue"])
def test_a_connection_of_a_worker_hangs(scaled: ScaledDeployment, play: Play, to: str) -> None:
    with play(f"half-open connections of a worker to the {to} for {LONG_S:g} s", scaled) as scene:
        scene.nothing_repeated = to == "queue"
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        line = scaled.lines[f"worker-{scene.busy_worker()}", to]
        line.stall()
        time.sleep(LONG_S)
        line.heal()


def test_answers_of_the_database_do_not_arrive(scaled: ScaledDeployment, play: Play) -> None:
    """A commit that is done and whose answer is lost must not be done twice."""
    with play(f"answers of the database to a worker are lost for {LONG_S:g} s", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        line = scaled.lines[f"worker-{scene.busy_worker()}", "database"]
        line.stall("back")
        time.sleep(LONG_S)
        # what hung gets no answer any more
        line.cut()
        time.sleep(0.5)
        line.heal()


def test_slow_connections(scaled: ScaledDeployment, play: Play) -> None:
    with play("50 ms more for each answer of database and queue to the workers", scaled) as scene:
        for (name, _), line in scaled.lines.items():
            line.delay_s = 0.05 if name.startswith("worker") else 0.0
        try:
            scene.submit("slow")
            scene.submit("waves")
            scene.submit("tiny")
            time.sleep(10)
        finally:
            scaled.heal()


def test_a_gateway_without_its_database(scaled: ScaledDeployment, play: Play) -> None:
    """It says that it is not ready, and that it will be; the other one goes on."""
    with play("a gateway cut from the database for 3 s", scaled) as scene:
        scene.submit("tiny")
        scaled.lines["gateway-0", "database"].cut()
        try:
            answers = [scene.try_submit("tiny") for _ in range(3)]
            assert answers == [None] * 3
            # it asks its database once in a second
            told_s = until(lambda: scaled.client.get("/readyz").status_code == 503, seconds=2, what="/readyz to tell")
            assert scene.submit("tiny", gateway=1)
            time.sleep(1)
        finally:
            scaled.heal()
        scene.notes.append(f"submits were answered {sorted(set(scene.refused))}, /readyz told after {told_s:.1f} s")
        assert set(scene.refused) == {"503"}, scene.notes[-1]
        scaled.wait_until_ready(workers=False)
        scene.submit("quick")


def test_a_gateway_without_its_queue(scaled: ScaledDeployment, play: Play) -> None:
    with play("a gateway cut from the queue for 6 s", scaled) as scene:
        scaled.lines["gateway-0", "queue"].stall()
        try:
            started = time.monotonic()
            for _ in range(3):
                scene.submit("tiny")
            scene.notes.append(f"three submits took {time.monotonic() - started:.1f} s")
            time.sleep(6)
        finally:
            scaled.heal()


def test_half_sent_requests(scaled: ScaledDeployment, play: Play) -> None:
    with play("300 clients send half a request and stay", scaled) as scene:
        port = int(scaled.base_urls[0].rpartition(":")[2])
        head = ("POST /v1/audits HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 90")
        half = "\r\n".join((*head, "", "{")).encode()
        clients = []
        try:
            for _ in range(300):
                client = socket.create_connection(("127.0.0.1", port), timeout=5)
                client.sendall(half)
                clients.append(client)
            started = time.monotonic()
            scene.submit("tiny")
            scene.notes.append(f"a submit beside them took {time.monotonic() - started:.2f} s")
        finally:
            for client in clients:
                client.close()
