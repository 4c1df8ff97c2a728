"""Processes are asked to end, or are stopped and continue: restarts of an upgrade, hosts that are paused."""

from __future__ import annotations

import time

from chaos.conftest import Play
from chaos.deployment import LEASE_S, Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.service_process import freeze, thaw

GRACE_S = 60.0
"""Longest time a process may take to end on SIGTERM here, where no shard takes longer than seconds."""

SHORT_GRACE_S = 4.0
"""What an orchestrator gives that does not wait for the end of a long shard."""


def test_rolling_restart(scaled: ScaledDeployment, play: Play) -> None:
    with play("SIGTERM of each process in turn", scaled) as scene:
        scene.submit("slow")
        scene.submit("waves")
        times = []
        for process in (*scaled.gateways, *scaled.workers):
            times.append(process.stop(GRACE_S))
            process.start()
            scene.try_submit("tiny")
            scene.try_submit("tiny", gateway=1)
            scaled.wait_until_ready(workers=False)
        scene.notes.append(f"slowest stop {max(times):.1f} s")


def test_restart_of_serve(embedded: EmbeddedDeployment, play: Play) -> None:
    with play("SIGTERM of serve", embedded) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        scene.notes.append(f"stopped in {embedded.serve.stop(GRACE_S):.1f} s")
        embedded.serve.start()
        embedded.wait_until_ready(workers=False)


def test_three_restarts_of_a_worker_within_a_shard(scaled: ScaledDeployment, play: Play) -> None:
    """A shard that is longer than the grace is interrupted each time, which must not count against it."""
    with play("three SIGTERM restarts of the workers within one shard", scaled) as scene:
        audit_id = scene.submit("a shard longer than the grace")
        for _ in range(3):
            if not _is_over(scene.deployment, audit_id):
                scene.wait_running(audit_id, above=0.01)
            for worker in scaled.workers:
                worker.stop_as_orchestrators_do(SHORT_GRACE_S)
            scaled.start_again()


def test_three_restarts_of_serve_within_a_shard(embedded: EmbeddedDeployment, play: Play) -> None:
    with play("three SIGTERM restarts of serve within one shard", embedded) as scene:
        audit_id = scene.submit("a shard longer than the grace")
        for _ in range(3):
            if not _is_over(scene.deployment, audit_id):
                scene.wait_running(audit_id, above=0.01)
            embedded.serve.stop_as_orchestrators_do(SHORT_GRACE_S)
            embedded.serve.start()
            embedded.wait_until_ready(workers=False)


def test_restart_of_redis_and_postgresql(scaled: ScaledDeployment, play: Play) -> None:
    with play("SIGTERM of Redis, SIGINT of PostgreSQL", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        scaled.redis_server.stop()
        time.sleep(1)
        scaled.redis_server.start()
        scaled.postgres.process.stop()
        time.sleep(1)
        scaled.start_again()


def test_a_worker_that_is_stopped_past_its_lease(deployment: Deployment, play: Play) -> None:
    """It continues and writes late, when its shard belongs to another or to nobody."""
    with play("SIGSTOP of a worker past its lease, then SIGCONT", deployment) as scene:
        audit_id = scene.submit("slow")
        scene.wait_running(audit_id, above=0.1)
        place = scene.busy_worker()
        frozen = freeze(deployment.worker_pids()[place])
        try:
            time.sleep(3 * LEASE_S)
        finally:
            thaw(frozen)


def test_a_database_that_is_stopped(scaled: ScaledDeployment, play: Play) -> None:
    with play("SIGSTOP of PostgreSQL for two leases, then SIGCONT", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.wait_running(audit_id, above=0.1)
        frozen = freeze(scaled.postgres.process.pid)
        try:
            time.sleep(2 * LEASE_S)
        finally:
            thaw(frozen)


def test_a_queue_that_is_stopped(deployment: Deployment, play: Play) -> None:
    with play("SIGSTOP of Redis for two leases, then SIGCONT", deployment) as scene:
        audit_id = scene.submit("slow")
        scene.wait_running(audit_id, above=0.1)
        frozen = freeze(deployment.redis_pid())
        try:
            accepted = scene.try_submit("tiny")
            assert accepted is not None, "a submit waits for the queue"
            time.sleep(2 * LEASE_S)
        finally:
            thaw(frozen)


def _is_over(deployment: Deployment, audit_id: str) -> bool:
    state = deployment.client.get(f"/v1/audits/{audit_id}").json()["state"]
    return state not in {"queued", "running"}
