"""The service on hosts of its own: database, queue, gateway and two workers, each in a network namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import final

import redis

from auditcore_service.embedded.redis_server import find_redis_server
from chaos.deployment import PROGRAM, Deployment
from chaos.network import SUBNET, Network
from chaos.postgres_server import PostgresServer
from chaos.service_process import ServiceProcess

HOSTS = ("database", "queue", "gateway", "worker-0", "worker-1")
DATABASE_PORT, QUEUE_PORT, GATEWAY_PORT = 5432, 6379, 8000


@final
class HostsDeployment(Deployment):
    """PostgreSQL, Redis, a gateway and two workers on five hosts; blobs are in a folder that all of them see.

    Attributes:
        network: Between the hosts.
    """

    kind = "five hosts"

    def __init__(self, folder: Path, *, weights: Path, settings: Mapping[str, str] | None = None) -> None:
        self.network = Network(HOSTS)
        super().__init__(folder, weights=weights, settings=settings, receiver_host=f"{SUBNET}.1")
        hosts = self.network.hosts
        self.postgres = PostgresServer(
            folder / "postgres", host=hosts["database"], port=DATABASE_PORT, prefix=self.network.on("database")
        )
        (folder / "redis").mkdir()
        self._redis = ServiceProcess(
            "redis",
            [
                str(find_redis_server()),
                *("--port", str(QUEUE_PORT), "--bind", hosts["queue"], "--protected-mode", "no"),
                *("--dir", str(folder / "redis"), "--appendonly", "yes", "--save", ""),
            ],
            environment={"PATH": os.environ["PATH"]},
            log=folder / "redis.log",
            prefix=self.network.on("queue"),
        )
        address = hosts["gateway"]
        shared = {
            "QUEUE": "redis",
            "DATABASE_URL": self.postgres.url(hosts["database"], DATABASE_PORT),
            "REDIS_URL": f"redis://{hosts['queue']}:{QUEUE_PORT}/0",
        }
        own = {"HOST": address, "UNAUTHENTICATED_HOST": address, "PORT": str(GATEWAY_PORT)}
        self.gateway, *self.workers = (
            ServiceProcess(
                name,
                [*PROGRAM, name.partition("-")[0]],
                environment=self.environment(**shared, **(own if name == "gateway" else {})),
                log=folder / f"{name}.log",
                prefix=self.network.on(name),
            )
            for name in ("gateway", "worker-0", "worker-1")
        )

    @property
    def database_url(self) -> str:
        return self.postgres.url(self.postgres.host, DATABASE_PORT)

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis(host=self.network.hosts["queue"], port=QUEUE_PORT)

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (f"http://{self.network.hosts['gateway']}:{GATEWAY_PORT}",)

    def processes(self) -> tuple[ServiceProcess, ...]:
        return (self.postgres.process, self._redis, self.gateway, *self.workers)

    def worker_pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self.workers)

    def redis_pid(self) -> int:
        return self._redis.pid

    def kill_redis(self) -> None:
        """End Redis, and start it again at once, as its supervisor would."""
        self._redis.kill()
        self._redis.start()

    def start(self) -> None:
        self._redis.start()
        self.postgres.start()
        super().start()

    def start_again(self) -> None:
        if not self.postgres.process.is_alive:
            self.postgres.start()
        super().start_again()

    def heal(self) -> None:
        self.network.heal()

    def stop(self) -> list[str]:
        self.heal()
        left = super().stop()
        self.network.remove()
        return left
