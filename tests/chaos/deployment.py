"""The two ways in which the service is deployed, with every process in reach of a scenario."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, final

import httpx
import psutil
import redis

import digits
from auditcore_service.embedded.redis_server import find_redis_server
from chaos.faulty_models import FACTORIES
from chaos.postgres_server import PostgresServer
from chaos.service_process import MARK, ServiceProcess, computing, marked
from chaos.tcp_proxy import TcpProxy
from scripted_server import Asked, Reply, scripted

TESTS = Path(__file__).parents[1]
PROGRAM = (sys.executable, "-c", "from auditcore_service.cli import main; main()")
READY_S = 180.0

LEASE_S = 3.0
SETTINGS: Mapping[str, str] = {
    "LEASE_S": str(LEASE_S),
    "SWEEP_S": "0.5",
    "HEARTBEAT_S": "0.3",
    "REQUEUE_AFTER_S": "3",
    "WEBHOOK_POLL_S": "0.5",
    "SHARD_IMAGES": "2",
    "THREADS": "1",
    "DEVICE": "cpu",
    # scores of micro-batches of other sizes differ by rounding, and measuring the size takes seconds
    "MICRO_BATCH": "8",
    "FACTORIES": json.dumps(FACTORIES),
    "LOG_JSON": "true",
}


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployment(ABC):
    """A running service, its database and its queue.

    Attributes:
        kind: What the tables call it.
        folder: Holds everything that it writes.
        weights: Folder with the weights of the models, the same for all deployments that are compared.
        receiver: Gets its webhooks.
    """

    kind: str

    def __init__(
        self,
        folder: Path,
        *,
        weights: Path,
        settings: Mapping[str, str] | None = None,
        receiver_host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.weights = weights
        self.mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._open = ExitStack()
        self.receiver = self._open.enter_context(scripted(_accept_event, receiver_host))
        self._own_settings = dict(settings or {})
        self._clients: dict[str, httpx.Client] = {}

    @property
    @abstractmethod
    def database_url(self) -> str:
        """The database, past everything that a scenario does to the service's own connections."""

    @property
    @abstractmethod
    def redis(self) -> redis.Redis:
        """The queue, past everything that a scenario does to the service's own connections."""

    @property
    @abstractmethod
    def base_urls(self) -> tuple[str, ...]:
        """Where the gateways are."""

    @abstractmethod
    def processes(self) -> tuple[ServiceProcess, ...]:
        """Everything that this deployment starts itself, in the order in which it has to be started."""

    @abstractmethod
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers' parents."""

    @abstractmethod
    def redis_pid(self) -> int:
        """Process id of Redis."""

    @abstractmethod
    def kill_redis(self) -> None:
        """End Redis; it is started again at once."""

    @property
    def blobs_url(self) -> str:
        return f"file://{self.folder / 'blobs'}"

    @property
    def client(self) -> httpx.Client:
        """A client of the first gateway."""
        return self.client_of(self.base_urls[0])

    def client_of(self, base_url: str) -> httpx.Client:
        if base_url not in self._clients:
            self._clients[base_url] = httpx.Client(base_url=base_url, timeout=30)
        return self._clients[base_url]

    def environment(self, **settings: str) -> dict[str, str]:
        """What a process of the service gets; settings are without their prefix."""
        chosen = {
            **SETTINGS,
            "FILE_ROOTS": json.dumps([str(self.weights)]),
            "BLOB_URL": self.blobs_url,
            "WEBHOOK_PREFIXES": json.dumps([f"{self.receiver.url}/"]),
            **self._own_settings,
            **settings,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")}
        kept.pop("REDIS_URL", None)
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **kept,
            **{f"AUDIT_{name}": value for name, value in chosen.items()},
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
        }

    def start(self) -> None:
        digits_file = self.weights / "digits.safetensors"
        if not digits_file.exists():
            digits.write_weights(self.weights)
        for process in self.processes():
            if not process.is_alive:
                process.start()
        self.wait_until_ready()
        hook = {"url": f"{self.receiver.url}/hook", "events": ["audit.succeeded", "audit.failed"]}
        answer = self.client.post("/v1/webhooks", json=hook)
        assert answer.status_code == 201, answer.text

    def wait_until_ready(self, *, workers: bool = True) -> None:
        """Wait until the gateways answer and, if it is wanted, every worker has a process that computes."""
        deadline = time.monotonic() + READY_S
        for url in self.base_urls:
            while True:
                try:
                    if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                assert time.monotonic() < deadline, f"{url} is not ready"
                time.sleep(0.1)
        while workers and not self._workers_compute():
            assert time.monotonic() < deadline, "no worker computes"
            time.sleep(0.2)

    def _workers_compute(self) -> bool:
        try:
            pids = self.worker_pids()
            return bool(pids) and all(computing(pid) for pid in pids)
        except psutil.NoSuchProcess:
            return False

    def start_again(self) -> None:
        """Start what has ended, as an orchestrator does."""
        for process in self.processes():
            if not process.is_alive:
                process.start()

    def heal(self) -> None:  # noqa: B027 - only some deployments have anything to heal
        """End what was done to connections."""

    def stop(self) -> list[str]:
        """End everything in order; returns what should have ended and did not."""
        left = []
        for process in reversed(self.processes()):
            if process.is_alive:
                try:
                    process.stop(30)
                except Exception as error:  # noqa: BLE001 - every other process has to be ended too
                    left.append(f"{process.name} did not end when it was asked to: {type(error).__name__}")
            process.end()
        deadline = time.monotonic() + 5
        while (alive := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in alive:
            left.append(f"process {' '.join(process.cmdline())[:100]} outlived the service")
            process.kill()
        for client in self._clients.values():
            client.close()
        self._open.close()
        return left

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> list[Path]:
        return sorted(self.folder.rglob("*.log"))


@final
class EmbeddedDeployment(Deployment):
    """`auditcore serve`: SQLite, its own Redis, one worker; one process that starts all others."""

    kind = "SQLite, embedded Redis"

    def __init__(
        self,
        folder: Path,
        *,
        weights: Path,
        settings: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
    ) -> None:
        super().__init__(folder, weights=weights, settings=settings)
        self.data = folder / "data"
        self._port = free_port()
        self.serve = ServiceProcess(
            "serve",
            [*program, "serve", "--port", str(self._port), "--data", str(self.data)],
            environment=self.environment(QUEUE="redis"),
            log=folder / "serve.log",
            prefix=prefix,
        )

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data / 'auditcore.db'}"

    @property
    def redis(self) -> redis.Redis:
        (path,) = [*self.data.glob("redis/redis.sock"), *self.temporary.glob("auditcore-*/redis.sock")][:1]
        return redis.Redis.from_url(f"unix://{path}")

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (f"http://127.0.0.1:{self._port}",)

    def processes(self) -> tuple[ServiceProcess, ...]:
        return (self.serve,)

    def worker_pids(self) -> tuple[int, ...]:
        children = psutil.Process(self.serve.pid).children()
        return tuple(one.pid for one in children if "auditcore_service.worker.process" in " ".join(one.cmdline()))

    def redis_pid(self) -> int:
        """Process id of Redis; waits while `serve` pauses before it starts it again."""
        deadline = time.monotonic() + READY_S
        while True:
            for child in psutil.Process(self.serve.pid).children():
                if "redis" in child.name() and child.status() != psutil.STATUS_ZOMBIE:
                    return child.pid
            assert time.monotonic() < deadline, "Redis was not started again"
            time.sleep(0.1)

    def kill_redis(self) -> None:
        """End Redis; `serve` starts it again."""
        os.kill(self.redis_pid(), signal.SIGKILL)


@final
class ScaledDeployment(Deployment):
    """PostgreSQL, Redis, gateways and workers, each a process of its own.

    Attributes:
        lines: (process, `database` or `queue`) -> the line between them.
    """

    kind = "PostgreSQL, Redis"

    def __init__(
        self,
        folder: Path,
        *,
        weights: Path,
        settings: Mapping[str, str] | None = None,
        gateways: int = 2,
        workers: int = 2,
        prefixes: Mapping[str, Sequence[str]] | None = None,
        own_settings: Mapping[str, Mapping[str, str]] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """Describe the deployment.

        Args:
            folder: Holds everything that it writes.
            weights: Folder with the weights of the models.
            settings: Settings of all processes of the service, without prefix.
            gateways: Their number.
            workers: Their number.
            prefixes: Name of a process -> programs that start it, such as `faketime`.
            own_settings: Name of a process -> settings of it only, without prefix.
            program: The command line of the service; another for another version.
        """
        super().__init__(folder, weights=weights, settings=settings)
        self.postgres = PostgresServer(folder / "postgres", port=free_port())
        self._redis_port = free_port()
        (folder / "redis").mkdir()
        self.redis_server = ServiceProcess(
            "redis",
            [
                str(find_redis_server()),
                *("--port", str(self._redis_port), "--bind", "127.0.0.1", "--dir", str(folder / "redis")),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
            ],
            environment={"PATH": os.environ["PATH"]},
            log=folder / "redis.log",
        )
        self.lines: dict[tuple[str, str], TcpProxy] = {}
        self.gateways: list[ServiceProcess] = []
        self.workers: list[ServiceProcess] = []
        self._ports = [free_port() for _ in range(gateways)]
        names = [*(f"gateway-{n}" for n in range(gateways)), *(f"worker-{n}" for n in range(workers))]
        for name in names:
            database = self.lines[name, "database"] = TcpProxy(self.postgres.port)
            queue = self.lines[name, "queue"] = TcpProxy(self._redis_port)
            role, number = name.split("-")
            given = {
                "QUEUE": "redis",
                "DATABASE_URL": self.postgres.url("127.0.0.1", database.port),
                "REDIS_URL": f"redis://127.0.0.1:{queue.port}/0",
            }
            if role == "gateway":
                given |= {"PORT": str(self._ports[int(number)])}
            process = ServiceProcess(
                name,
                [*program, role],
                environment=self.environment(**given, **(own_settings or {}).get(name, {})),
                log=folder / f"{name}.log",
                prefix=(prefixes or {}).get(name, ()),
            )
            (self.gateways if role == "gateway" else self.workers).append(process)

    @property
    def database_url(self) -> str:
        return self.postgres.url("127.0.0.1", self.postgres.port)

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis(port=self._redis_port)

    @property
    def base_urls(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{port}" for port in self._ports)

    def processes(self) -> tuple[ServiceProcess, ...]:
        return (self.postgres.process, self.redis_server, *self.gateways, *self.workers)

    def worker_pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self.workers)

    def start(self) -> None:
        self.redis_server.start()
        self.postgres.start()
        super().start()

    def start_again(self) -> None:
        if not self.postgres.process.is_alive:
            self.postgres.start()
        super().start_again()

    def redis_pid(self) -> int:
        return self.redis_server.pid

    def kill_redis(self) -> None:
        """End Redis, and start it again at once, as its supervisor would."""
        self.redis_server.kill()
        self.redis_server.start()

    def heal(self) -> None:
        for line in self.lines.values():
            line.heal()

    def stop(self) -> list[str]:
        self.heal()
        left = super().stop()
        for line in self.lines.values():
            line.close()
        self.lines.clear()
        return left


def flush(deployment: Deployment) -> None:
    """Empty the queue, as an operator does by mistake."""
    with closing(deployment.redis) as queue:
        queue.flushall()


def _accept_event(_: Asked) -> Reply:
    return Reply(204, b"")


def json_of(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()
