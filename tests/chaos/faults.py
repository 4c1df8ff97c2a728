"""The faults of the soak: each is done to a deployment and undone, whatever the deployment is doing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil

from chaos.deployment import LEASE_S, Deployment, EmbeddedDeployment, ScaledDeployment, flush
from chaos.service_process import computing, freeze, thaw

Fault = Callable[[Deployment, random.Random], None]


def kill_computing(deployment: Deployment, chosen: random.Random) -> None:
    """SIGKILL of a process that computes."""
    with suppress(psutil.NoSuchProcess, IndexError):
        computing(_worker(deployment, chosen))[0].kill()


def kill_worker(deployment: Deployment, chosen: random.Random) -> None:
    """SIGKILL of a worker."""
    with suppress(ProcessLookupError, IndexError):
        os.kill(_worker(deployment, chosen), signal.SIGKILL)
    time.sleep(1)
    deployment.start_again()


def stop_worker(deployment: Deployment, chosen: random.Random) -> None:
    """SIGTERM of a worker."""
    with suppress(ProcessLookupError, IndexError):
        os.kill(_worker(deployment, chosen), signal.SIGTERM)
    time.sleep(2)
    deployment.start_again()


def freeze_worker(deployment: Deployment, chosen: random.Random) -> None:
    """SIGSTOP of a worker for up to two leases."""
    with suppress(psutil.NoSuchProcess, IndexError):
        frozen = freeze(_worker(deployment, chosen))
        time.sleep(chosen.uniform(0.3, 2) * LEASE_S)
        thaw(frozen)


def kill_redis(deployment: Deployment, _: random.Random) -> None:
    """SIGKILL of Redis."""
    with suppress(AssertionError, psutil.NoSuchProcess):
        deployment.kill_redis()


def flush_queue(deployment: Deployment, _: random.Random) -> None:
    """FLUSHALL."""
    with suppress(Exception):  # Redis may be starting again after the fault before
        flush(deployment)


def kill_all(deployment: Deployment, _: random.Random) -> None:
    """SIGKILL of everything at once."""
    for process in deployment.processes():
        process.end()
    deployment.start_again()


def kill_gateway(deployment: Deployment, chosen: random.Random) -> None:
    """SIGKILL of a gateway."""
    if isinstance(deployment, EmbeddedDeployment):
        kill_all(deployment, chosen)
    elif isinstance(deployment, ScaledDeployment):
        process = chosen.choice(deployment.gateways)
        if process.is_alive:
            process.kill()
        time.sleep(1)
        deployment.start_again()


def kill_postgres(deployment: Deployment, chosen: random.Random) -> None:
    """SIGKILL of PostgreSQL, which is away for up to 3 s."""
    assert isinstance(deployment, ScaledDeployment)
    deployment.postgres.process.end()
    time.sleep(chosen.uniform(0, 3))
    deployment.start_again()


def cut_line(deployment: Deployment, chosen: random.Random) -> None:
    """A connection of a process to database or queue is refused for up to two leases."""
    assert isinstance(deployment, ScaledDeployment)
    line = deployment.lines[chosen.choice(sorted(deployment.lines))]
    line.cut()
    time.sleep(chosen.uniform(0.3, 2) * LEASE_S)
    line.heal()


def stall_line(deployment: Deployment, chosen: random.Random) -> None:
    """A connection of a process to database or queue hangs for up to two leases."""
    assert isinstance(deployment, ScaledDeployment)
    line = deployment.lines[chosen.choice(sorted(deployment.lines))]
    line.stall()
    time.sleep(chosen.uniform(0.3, 2) * LEASE_S)
    line.heal()


EVERYWHERE: Mapping[str, Fault] = {
    "computing process killed": kill_computing,
    "worker killed": kill_worker,
    "worker stopped in order": stop_worker,
    "worker frozen": freeze_worker,
    "Redis killed": kill_redis,
    "queue flushed": flush_queue,
    "gateway killed": kill_gateway,
}
ONLY_SCALED: Mapping[str, Fault] = {
    "PostgreSQL killed": kill_postgres,
    "connection cut": cut_line,
    "connection hangs": stall_line,
    "everything killed": kill_all,
}


def faults_of(deployment: Deployment) -> Mapping[str, Fault]:
    """The faults that make sense for a deployment."""
    return {**EVERYWHERE, **(ONLY_SCALED if isinstance(deployment, ScaledDeployment) else {})}


def _worker(deployment: Deployment, chosen: random.Random) -> int:
    return chosen.choice(deployment.worker_pids())
