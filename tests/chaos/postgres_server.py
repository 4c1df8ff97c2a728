"""A PostgreSQL of a deployment, whose processes a scenario may end."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

import psycopg

from chaos.service_process import ServiceProcess

START_S = 60.0
SERVICE_ROLE = "auditcore"


def find_programs() -> Path:
    """The folder with `initdb` and `postgres`: the newest of Debian, else that of the package pgserver."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: float(found.parent.name))
    if installed:
        return installed[-1]
    package = importlib.util.find_spec("pgserver")
    assert package is not None, "install PostgreSQL, or the package pgserver"
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


@final
class PostgresServer:
    """A server with one database, owned by an ordinary role as in production.

    Attributes:
        process: The postmaster.
        port: Where it listens.
    """

    def __init__(self, folder: Path, *, port: int, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        """Describe the server and make its cluster.

        Args:
            folder: For its data and its log.
            port: Where to listen.
            host: The address to listen at.
            prefix: Programs that start it, such as `ip netns exec`.
        """
        self.host, self.port = host, port
        self._programs = find_programs()
        folder.mkdir(parents=True, exist_ok=True)
        user = None
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root
            user = "postgres" if _exists("postgres") else "nobody"
            shutil.chown(folder, user, _group(user))
        data = folder / "data"
        subprocess.run(
            [self._programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            group=None if user is None else _group(user),
            cwd="/",
        )
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")
        # the whole prefix needs root; the server itself must not have it
        command = [str(self._programs / "postgres"), "-D", str(data), "-h", host, "-p", str(port)]
        command += ["-c", f"unix_socket_directories={folder}", "-c", "max_connections=200"]
        if prefix and user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={_group(user)}", "--clear-groups", *command]
        log = folder / "postgres.log"
        log.touch()
        self.process = ServiceProcess(
            "postgres",
            command,
            environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            log=log,
            prefix=prefix,
            user=None if prefix else user,
            # on SIGTERM it waits for its clients, also for one that a broken network has taken away
            stop_signal=signal.SIGINT,
        )

    def start(self) -> None:
        """Start it, wait until it answers, and make the database if it is new."""
        self.process.start()
        deadline = time.monotonic() + START_S
        while True:
            try:
                with self.connect("postgres") as connection:
                    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [SERVICE_ROLE]).fetchone():
                        connection.execute(f"CREATE ROLE {SERVICE_ROLE} LOGIN")
                        connection.execute(f"CREATE DATABASE {SERVICE_ROLE} OWNER {SERVICE_ROLE}")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self.process.log.read_text()
                time.sleep(0.1)
            else:
                return

    def connect(self, database: str = SERVICE_ROLE) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the superuser, past everything that a scenario does to the service's."""
        return psycopg.connect(
            host=self.host, port=self.port, user="postgres", dbname=database, autocommit=True, connect_timeout=3
        )

    def url(self, host: str, port: int) -> str:
        """What a process of the service is told, with the address of a line to the server."""
        return f"postgresql://{SERVICE_ROLE}@{host}:{port}/{SERVICE_ROLE}"

    def backends(self) -> list[int]:
        """Process ids of the server that serve connections of the service."""
        with self.connect() as connection:
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [SERVICE_ROLE]).fetchall()
        return [int(str(row[0])) for row in rows]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid
