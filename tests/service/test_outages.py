"""What the service needs is away, full or read-only: 503 with Retry-After, nothing half stored."""

from __future__ import annotations

import base64
import errno
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.outages import outage
from auditcore_service.gateway.service import Service
from auditcore_service.queue.shard_queue import QueueUnavailable
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStoreUnavailable
from auditcore_service.store.database import Database, DatabaseIsNewer
from command_line import run

INLINE = {"kind": "inline", "images": [{"data": base64.b64encode(b"x" * 5000).decode()}]}
SMALL = {"kind": "inline", "images": [{"data": "eHh4"}]}
REQUEST: dict[str, Any] = {"model": {"kind": "demo"}, "images": INLINE, "plan": {"preset": "quick"}}


def sqlite_error(code: int) -> OperationalError:
    origin = sqlite3.OperationalError("from SQLite")
    origin.sqlite_errorcode = code
    return OperationalError("SELECT 1", {}, origin)


def postgresql_error(state: str | None) -> DBAPIError:
    origin = psycopg.OperationalError("from PostgreSQL") if state is None else psycopg.errors.lookup(state)("from it")
    return OperationalError("SELECT 1", {}, origin)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), "locked"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "locked"),
        (sqlite_error(sqlite3.SQLITE_FULL), "no room"),
        (sqlite_error(sqlite3.SQLITE_READONLY), "read-only"),
        (sqlite_error(sqlite3.SQLITE_IOERR), "read or written"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), "cannot be opened"),
        (sqlite_error(sqlite3.SQLITE_READONLY).orig, "read-only"),
        (sqlite_error(sqlite3.SQLITE_ERROR), None),
        (postgresql_error(None), "does not answer"),
        (postgresql_error("57P01"), "stopped"),
        (postgresql_error("53300"), "no connection"),
        (postgresql_error("53100"), "no room"),
        (postgresql_error("25006"), "read-only"),
        (postgresql_error("40P01"), "busy"),
        (postgresql_error("42P01"), None),
        (ProgrammingError("SELECT 1", {}, psycopg.ProgrammingError("a mistake")), None),
        (PoolTimeout("QueuePool limit"), "no free connection"),
        (QueueUnavailable("away"), "the queue"),
        (redis.ConnectionError("away"), "the queue"),
        (BlobStoreUnavailable(errno.ENOSPC, "the blob store cannot be used: full"), "blob store"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (ValueError("a mistake"), None),
    ],
)
def test_every_known_outage_says_what_is_wrong(error: Exception, says: str | None) -> None:
    found = outage(error)
    if says is None:
        assert found is None
    else:
        assert says in str(found)
        assert "send the request again" in str(found)


def away(answer: Any, says: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"
    assert says in answer.json()["detail"]


def everything(client: TestClient) -> Iterator[Any]:
    """Answers to requests that read and that write."""
    yield client.get("/v1/audits")
    yield client.post("/v1/audits", json=REQUEST)
    yield client.post("/v1/image-batches", files={"images": ("a.png", b"x" * 5000, "image/png")})
    yield client.post("/v1/webhooks", json={"url": "https://1.1.1.1/hook", "events": ["audit.failed"]})


def test_postgresql_that_is_away(make_settings: Callable[..., Settings], new_postgres_url: str) -> None:
    parsed = sqlalchemy.make_url(new_postgres_url)
    admin = sqlalchemy.create_engine(
        parsed.set(drivername="postgresql+psycopg", database="postgres"), isolation_level="AUTOCOMMIT"
    )
    settings = make_settings(database_url=SecretStr(new_postgres_url))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client, admin.connect() as connection:
        assert client.post("/v1/audits", json=REQUEST).status_code == 202
        # as after a crash: every connection is cut, and none is let in
        connection.execute(sqlalchemy.text(f'ALTER DATABASE "{parsed.database}" ALLOW_CONNECTIONS false'))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sqlalchemy.text(cut), {"name": parsed.database})
        for answer in everything(client):
            away(answer, "the database")
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json()["errors"][0]["pointer"] == "#database"
        connection.execute(sqlalchemy.text(f'ALTER DATABASE "{parsed.database}" ALLOW_CONNECTIONS true'))
        assert len(client.get("/v1/audits").json()["items"]) == 1
        assert client.post("/v1/audits", json=REQUEST).status_code == 202
    admin.dispose()


def test_a_key_is_not_wrong_because_the_database_is_away(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(make_settings(authentication="required")), raise_server_exceptions=False) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]

        def locked(*_: object) -> None:
            raise sqlite_error(sqlite3.SQLITE_BUSY)

        monkeypatch.setattr(type(service.authentication), "principal", locked)
        away(client.get("/v1/audits", headers={"Authorization": "Bearer ac_x"}), "locked")


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process can grow any more, as on a full disk; what is there can be read."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_under_database_and_blobs(client: TestClient) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    assert client.post("/v1/audits", json=REQUEST).status_code == 202
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = set(service.settings.data_dir.rglob("*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        away(client.post("/v1/audits", json={**REQUEST, "images": SMALL}), "the database")
        away(client.post("/v1/image-batches", files={"images": ("a.png", b"y" * 5000, "image/png")}), "blob store")
        assert len(client.get("/v1/audits").json()["items"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [file for file in set(service.settings.data_dir.rglob("*")) - files if file.name.endswith(".part")]
    assert client.post("/v1/image-batches", files={"images": ("a.png", b"y" * 5000, "image/png")}).status_code == 201


def test_a_read_only_database(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]

        def read_only(connection: Any, _record: object, _proxy: object) -> None:
            connection.execute("PRAGMA query_only=ON")

        sqlalchemy.event.listen(service.database.engine, "checkout", read_only)
        away(client.post("/v1/audits", json=REQUEST), "read-only")
        assert client.get("/v1/audits").json()["items"] == []
        sqlalchemy.event.remove(service.database.engine, "checkout", read_only)


def test_older_code_refuses_a_newer_database(database: Database) -> None:
    database.check_version()
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    for start in (database.check_version, database.migrate):
        with pytest.raises(DatabaseIsNewer, match=r"newer version of auditcore \(revision 9999\).*restore the backup"):
            start()


def test_a_gateway_on_a_newer_database_says_one_sentence(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/auditcore.db")
    database.migrate()
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    done = run("serve", "--data", tmp_path, "--port", "0")
    assert done.exit_code == 2
    assert "migrated by a newer version" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_of_earlier_versions_that_others_may_read_are_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/auditcore.db")
    database.migrate()
    assert database.readable_by_others() == ()
    (tmp_path / "auditcore.db").chmod(0o644)
    tmp_path.chmod(0o755)
    assert database.readable_by_others() == (tmp_path / "auditcore.db",)
    tmp_path.chmod(0o700)
    # nobody else reaches it
    assert database.readable_by_others() == ()
    database.close()
