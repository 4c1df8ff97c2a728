"""Connections and transactions that behave the same on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from auditcore_service.startup import CannotStart
from auditcore_service.store.tenancy import EVERY_TENANT, TENANT_OPTION

BUSY_TIMEOUT_MS = 15_000
"""Longest wait for SQLite's write lock. Transactions take milliseconds; a checkpoint on a slow disk takes seconds."""

_PATIENCE = {
    "connect_timeout": 3,
    "tcp_user_timeout": 6_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""How long a PostgreSQL that does not answer at all is waited for, in the words of libpq: seconds, but milliseconds for
`tcp_user_timeout`. Without these, packets that a broken network drops are waited for a quarter of an hour. An old
connection and a new one are tried after each other, in less time together than clients wait. A URL may give others,
such as `?connect_timeout=20`."""

_MIGRATION_LOCK = 0x61756469  # "audi": an arbitrary number that no other program on this database uses
_WRITES = "auditcore_writes"


class DatabaseIsNewer(CannotStart):
    """A newer version of auditcore has migrated the database."""


@final
class Database:
    """One database.

    `writing` is a transaction that excludes every other writer of the same audit. SQLite takes its only write lock at
    the start (BEGIN IMMEDIATE, so that two readers never deadlock when they become writers). PostgreSQL locks the
    audit's row.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(make_url(url))
        # SQLite polls for its write lock with increasing pauses; threads of one process share a lock instead
        self._turn = threading.Lock() if self.engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def writing(self, tenant: str = EVERY_TENANT) -> Iterator[Connection]:
        """Open a write transaction that commits at the end, or rolls back on an exception; it must not be nested.

        Args:
            tenant: Whose rows it may see and write; `EVERY_TENANT` for work of the service itself.
        """
        with (
            self.engine.connect().execution_options(**{_WRITES: True, TENANT_OPTION: tenant}) as connection,
            self._turn,
            connection.begin(),
        ):
            self._limit_rows(connection, tenant)
            yield connection

    @contextmanager
    def reading(self, tenant: str = EVERY_TENANT) -> Iterator[Connection]:
        """Open a read transaction with a consistent view; on SQLite (WAL) it never waits for a writer.

        Args:
            tenant: Whose rows it may see; `EVERY_TENANT` for work of the service itself.
        """
        with (
            self.engine.connect().execution_options(**{TENANT_OPTION: tenant}) as connection,
            connection.begin(),
        ):
            self._limit_rows(connection, tenant)
            yield connection

    def _limit_rows(self, connection: Connection, tenant: str) -> None:
        """Tell PostgreSQL whose rows the transaction may touch: its row-level security is a second wall."""
        if self.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT set_config('auditcore.tenant', :tenant, true)"), {"tenant": tenant})

    def migrate(self) -> None:
        """Migrate the schema to the newest version; several processes may do this at the same time.

        Raises:
            DatabaseIsNewer: It was migrated by a newer version.
        """
        config = _migrations()
        with self.writing() as connection:
            _refuse_newer(connection, config)
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check_version(self) -> None:
        """Check that this version of auditcore knows the schema; does not change it.

        Raises:
            DatabaseIsNewer: It was migrated by a newer version.
        """
        with self.reading() as connection:
            _refuse_newer(connection, _migrations())

    def readable_by_others(self) -> tuple[Path, ...]:
        """Files of SQLite that other users of the machine may read, in a folder that they may enter.

        New ones are private. Those of earlier versions are left as they are: their group may be meant to read them.
        """
        database = self.engine.url.database
        if self.engine.dialect.name != "sqlite" or not database or database.startswith("file:"):
            return ()
        path = Path(database)
        files = (path, *(path.with_name(f"{path.name}-{ending}") for ending in ("wal", "shm")))
        if not path.parent.stat().st_mode & stat.S_IXOTH:
            return ()
        return tuple(file for file in files if file.exists() and file.stat().st_mode & stat.S_IROTH)

    def is_without_walls(self) -> bool:
        """Whether PostgreSQL would show the rows of every tenant, because the role of the service is a superuser.

        The service itself keeps tenants apart, whatever the database. SQLite has no second wall to pass.
        """
        if self.engine.dialect.name != "postgresql":
            return False
        with self.reading() as connection:
            role = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            return bool(connection.execute(role).scalar_one())

    def check(self) -> None:
        """Check that the database is reachable.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: It is not reachable.
        """
        with self.reading() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _refuse_newer(connection: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    newer = sorted(set(MigrationContext.configure(connection).get_current_heads()) - known)
    if newer:
        msg = (
            f"the database was migrated by a newer version of auditcore (revision {', '.join(newer)}), which this one "
            "does not know. Install the newer version again, or restore the backup that was made before the upgrade"
        )
        raise DatabaseIsNewer(msg)


def _engine(url: URL) -> Engine:
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        given = {name: value for name, value in _PATIENCE.items() if name not in url.query}
        # a connection that the server closed while idle must not fail the next request
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=given)
    # a URL of SQLite's own is no path
    if url.database and not url.database.startswith("file:"):
        _make_private(Path(url.database))
    # opening one takes five statements, so connections are kept
    engine = create_engine(url, pool_size=40, max_overflow=40, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Make an empty file that only its user may read, and its folder; both are left alone if they exist.

    The database holds reports and the secrets of webhooks. SQLite gives the files beside it the same mode.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _configure_sqlite(connection: Any, _record: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the driver's own type
    # the driver would begin transactions itself, and too late; `_begin_sqlite` does it instead
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    for pragma in (
        # each commit reaches the disk before it is answered. NORMAL would survive a crash of this process too, but a
        # power failure could undo the last commits, and it saves only one fsync per commit
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: Any) -> None:  # noqa: ANN401 - the driver's own type
    """Switch a database to WAL; where it is already, this only reads.

    The switch needs exclusive access and does not wait for it, whatever the timeout. Without the retry, all but one of
    several processes that start on a new database would fail.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # the last byte of a code is the primary error, the others are details
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
