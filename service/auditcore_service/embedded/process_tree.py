"""The whole service in one process tree: gateway here, Redis and workers as supervised children.

The same code as scaled out; only the addresses differ. Where there is no Redis, workers ask the database for shards.
The database is SQLite and the blobs are files, below `Settings.data_dir`, unless the settings name others.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import IO, Self, final

import structlog
import uvicorn
from pydantic import SecretStr

from auditcore_service.embedded.redis_server import RedisMissing, RedisServer, find_redis_server
from auditcore_service.embedded.supervision import SupervisedProcess
from auditcore_service.gateway.process import gateway_config
from auditcore_service.key_files import create_signing_key
from auditcore_service.logs import configure_logs
from auditcore_service.settings import Settings
from auditcore_service.startup import CannotStart, open_listener
from auditcore_service.told import Told
from auditcore_service.worker.locked_folders import remove_folders_of_the_dead
from auditcore_service.worker.sandbox.enforcement import hide_process

log = structlog.get_logger(__name__)

SIGNING_KEY = "signing-key.pem"
"""Name of the file with the signing key, below `Settings.data_dir`."""

START_S = 30.0
"""Longest wait for the gateway to listen; it takes about a second."""


ENDING_S = 10.0
"""How long a worker may take to end after it has handed its shard back; it closes a pool and its connections."""


class AlreadyRunning(CannotStart):
    """Another embedded service uses this folder."""


class GatewayFailed(CannotStart):
    """The gateway did not start; its log says why."""


@final
class EmbeddedService:
    """Start it, use `base_url`, stop it; or use it as a context manager. Works in any thread.

    Attributes:
        settings: As given, with the addresses of what was started filled in.
        workers: The supervised workers.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workers: tuple[SupervisedProcess, ...] = ()
        self._redis: RedisServer | None = None
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._lock_file: IO[str] | None = None

    @property
    def base_url(self) -> str:
        """Where the gateway listens; known after `start`.

        Raises:
            RuntimeError: It has not been started.
        """
        if self._socket is None:
            msg = "start() the service first"
            raise RuntimeError(msg)
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Start the queue, the gateway and the workers, in this order; return when the gateway answers.

        Raises:
            AlreadyRunning: Another service uses `data_dir`.
            RedisMissing: The queue has to be Redis, and there is none to start.
            AddressUnavailable: The port is taken.
        ExposedWithoutAuthentication: Other machines can reach the address, and there is no authentication.
            GatewayFailed: The gateway did not come up.
            SigningKeyUnreadable: The signing key cannot be read.
        """
        try:
            self._lock_folder()
            # the port first: it is the most likely mistake, and takes no time to check
            self._socket = open_listener(self.settings)
            self._start_queue()
            self._choose_signing_key()
            self._start_gateway(self._socket)
            self.workers = tuple(self._worker(number) for number in range(self.settings.workers))
            for worker in self.workers:
                worker.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the workers, the gateway and Redis, in this order; return when all are gone. May be called twice."""
        # all at once, because each may take its whole grace period
        stopping = [threading.Thread(target=worker.stop) for worker in self.workers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        # a worker that was killed could not remove its own
        remove_folders_of_the_dead("worker", "compute")
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None
        if self._redis is not None:
            self._redis.stop()
            self._redis = None
        if self._socket is not None:
            self._socket.close()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def hurry(self) -> None:
        """End the workers at once, also while `stop` waits for them; their shards are done again after their leases.

        Safe in a signal handler.
        """
        for worker in self.workers:
            worker.kill()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _start_queue(self) -> None:
        """Choose the queue, start it if it is a Redis of our own, and write both into the settings."""
        settings, chosen = self.settings, dict[str, object]()
        if settings.queue == "database":
            reason = "AUDIT_QUEUE says so"
        elif settings.redis_url is not None:
            chosen, reason = {"queue": "redis"}, "AUDIT_REDIS_URL is set"
        else:
            try:
                program = find_redis_server()
            except RedisMissing as error:
                if settings.queue == "redis":
                    raise
                chosen, reason = {"queue": "database"}, str(error)
            else:
                self._redis = RedisServer(settings.data_dir.absolute() / "redis", program=program)
                self._redis.start()
                chosen, reason = {"queue": "redis", "redis_url": SecretStr(self._redis.url)}, f"{program} was found"
        self.settings = settings.model_copy(update=chosen)
        log.info("queue_chosen", queue=self.settings.queue, reason=reason)

    def _worker(self, number: int) -> SupervisedProcess:
        # workers sign nothing
        settings = self.settings.model_copy(update={"signing_key": None})
        return SupervisedProcess(
            "worker" if self.settings.workers == 1 else f"worker-{number}",
            [
                sys.executable,
                "-c",
                "from auditcore_service.worker.process import main; main()",
            ],
            environment=settings.environment(),
            # it stores the images that are done and hands the rest back; ending its own child takes a few seconds more
            grace_s=settings.drain_s + ENDING_S,
        )

    def _lock_folder(self) -> None:
        """Two services must not use one folder: both would write the file of its Redis."""
        folder = self.settings.data_dir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # the kernel releases the lock however this process ends
        self._lock_file = (folder / "service.lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock_file.close()
            self._lock_file = None
            msg = f"another auditcore service uses {folder}; stop it, or choose another with --data or AUDIT_DATA_DIR"
            raise AlreadyRunning(msg) from error

    def _choose_signing_key(self) -> None:
        """Use the key of the folder, which is made at the first start, unless the settings name another."""
        if self.settings.signing_key is not None:
            return
        path = self.settings.data_dir.absolute() / SIGNING_KEY
        # no other process writes it: the folder is locked
        if not path.exists():
            key = create_signing_key(path)
            log.info("signing_key_created", path=str(path), key_id=key.public.key_id)
        self.settings = self.settings.model_copy(update={"signing_key": path})

    def _start_gateway(self, listener: socket.socket) -> None:
        # outside the main thread uvicorn does not handle signals; `run` does
        server = uvicorn.Server(gateway_config(self.settings))
        self._server = server
        self._thread = threading.Thread(target=server.run, args=([listener],), name="gateway", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                msg = "the gateway did not start; the log lines above say why"
                raise GatewayFailed(msg)
            time.sleep(0.01)


def run(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then shut everything down in order.

    Workers store the images that are done and hand the rest of their shards back; a second signal ends them at once.

    Args:
        settings: The operator's settings.
        on_ready: Called once with the base URL, when the gateway answers.

    Raises:
        AlreadyRunning: Another service uses `data_dir`.
        RedisMissing: The queue has to be Redis, and there is none to start.
        AddressUnavailable: The port is taken.
        ExposedWithoutAuthentication: Other machines can reach the address, and there is no authentication.
    """
    configure_logs(settings)
    # processes that compute are of the same user, and this one has read every secret of the service
    hide_process()
    told = Told()
    service = EmbeddedService(settings)

    def stop(_number: int, _frame: FrameType | None) -> None:
        if told.times:
            service.hurry()
        told.tell()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with service:
            log.info("service_started", url=service.base_url, pid=os.getpid())
            if on_ready is not None:
                on_ready(service.base_url)
            told.wait()
        log.info("service_stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
