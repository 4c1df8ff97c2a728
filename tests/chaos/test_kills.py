"""Processes die in the middle of their work: SIGKILL of each, one at a time, and many times."""

from __future__ import annotations

import os
import signal
import time

import psutil

from chaos.conftest import Play
from chaos.deployment import Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.scene import until


def test_nothing(deployment: Deployment, play: Play) -> None:
    with play("nothing", deployment) as scene:
        for kind in ("slow", "waves", "quick", "tiny"):
            scene.submit(kind)


def test_kill_of_the_computing_process(deployment: Deployment, play: Play) -> None:
    with play("kill -9 of the computing process", deployment) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        scene.computing().kill()


def test_kill_of_a_worker(deployment: Deployment, play: Play) -> None:
    with play("kill -9 of a worker", deployment) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        pid = deployment.worker_pids()[scene.busy_worker()]
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, alive
        until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid), seconds=5, what="the worker to be gone")
        deployment.start_again()


def test_kill_of_the_gateway(embedded: EmbeddedDeployment, play: Play) -> None:
    with play("kill -9 of the gateway", embedded) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        children = psutil.Process(embedded.serve.pid).children(recursive=True)
        embedded.serve.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, alive
        embedded.start_again()
        embedded.wait_until_ready(workers=False)


def test_kill_of_a_gateway(scaled: ScaledDeployment, play: Play) -> None:
    with play("kill -9 of a gateway", scaled) as scene:
        scene.submit("slow")
        submitted = [scene.submit("tiny") for _ in range(5)]
        scaled.gateways[0].kill()
        # answered and not announced yet: the other gateway has to find them
        assert len(submitted) == 5
        scene.submit("waves", gateway=1)
        time.sleep(2)
        scaled.start_again()
        scaled.wait_until_ready(workers=False)


def test_kill_of_redis(deployment: Deployment, play: Play) -> None:
    with play("kill -9 of Redis", deployment) as scene:
        scene.nothing_repeated = True
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        deployment.kill_redis()


def test_three_deaths_of_redis_within_a_shard(deployment: Deployment, play: Play) -> None:
    with play("three deaths of Redis within one shard", deployment) as scene:
        scene.nothing_repeated = True
        audit_id = scene.submit("one long shard")
        for _ in range(3):
            scene.wait_running(audit_id, above=0.01)
            deployment.kill_redis()
            time.sleep(1)
        scene.wait_running(audit_id)


def test_kill_of_postgresql(scaled: ScaledDeployment, play: Play) -> None:
    with play("kill -9 of PostgreSQL", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        scaled.postgres.process.kill()
        time.sleep(1)
        scaled.start_again()


def test_kill_of_the_connections_to_postgresql(scaled: ScaledDeployment, play: Play) -> None:
    with play("every connection to PostgreSQL ends, ten times", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        for _ in range(10):
            with scaled.postgres.connect() as connection:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'auditcore'")
            scene.try_submit("tiny")
            time.sleep(0.3)


def test_kill_of_a_backend_of_postgresql(scaled: ScaledDeployment, play: Play) -> None:
    with play("kill -9 of a process of PostgreSQL, which restarts all", scaled) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.1)
        os.kill(scaled.postgres.backends()[0], signal.SIGKILL)


def test_the_whole_machine_at_once(deployment: Deployment, play: Play) -> None:
    with play("kill -9 of everything at once", deployment) as scene:
        audit_id = scene.submit("slow")
        scene.submit("waves")
        for _ in range(3):
            scene.submit("tiny")
        scene.wait_running(audit_id, above=0.1)
        for process in deployment.processes():
            process.end()
        deployment.start_again()
        deployment.wait_until_ready(workers=False)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
