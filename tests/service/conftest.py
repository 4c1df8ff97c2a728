from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import SecretStr

from auditcore_service.embedded.redis_server import RedisServer
from auditcore_service.gateway.app import create_app
from auditcore_service.key_files import create_signing_key
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from queues import NO_REDIS, has_redis


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL, started once; its folder is short and open because it runs as a user of its own."""
    pgserver = pytest.importorskip("pgserver", reason="pgserver has no wheel for Python 3.13 and later")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_postgres_url(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of its own for a test."""
    name = f"t{os.getpid()}_{abs(hash(request.node.nodeid))}"
    admin = sqlalchemy.create_engine(
        sqlalchemy.make_url(postgres_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}"'))
    yield sqlalchemy.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def owned_postgres_url(new_postgres_url: str) -> Iterator[str]:
    """An empty database that belongs to an ordinary role, as in production; superusers pass every wall."""
    parsed = sqlalchemy.make_url(new_postgres_url).set(drivername="postgresql+psycopg")
    admin = sqlalchemy.create_engine(parsed, isolation_level="AUTOCOMMIT")
    role = f"{parsed.database}_service"
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f'CREATE ROLE "{role}" LOGIN'))
        connection.execute(sqlalchemy.text(f'ALTER DATABASE "{parsed.database}" OWNER TO "{role}"'))
        connection.execute(sqlalchemy.text(f'GRANT ALL ON SCHEMA public TO "{role}"'))
    yield parsed.set(username=role).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f'REASSIGN OWNED BY "{role}" TO CURRENT_USER'))
        connection.execute(sqlalchemy.text(f'DROP OWNED BY "{role}"'))
        connection.execute(sqlalchemy.text(f'DROP ROLE "{role}"'))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One suite, two databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    url: str = request.getfixturevalue("new_postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis, the one the embedded service would start."""
    if not has_redis():
        pytest.skip(NO_REDIS)
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder)
    server.start()
    yield server.url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new signing key."""
    path = tmp_path / "key.pem"
    create_signing_key(path)
    return path


@pytest.fixture
def queue_kind() -> str:
    """The queue a service uses here; a test that is to run on both parametrizes this name."""
    return "redis" if has_redis() else "database"


@pytest.fixture
def make_settings(tmp_path: Path, queue_kind: str, request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """Settings of a service below a temporary folder; keywords override."""
    queue: dict[str, object] = {"queue": queue_kind}
    if queue_kind == "redis":
        url: str = request.getfixturevalue("redis_url")
        queue["redis_url"] = SecretStr(url)
        with redis.Redis.from_url(url) as client:
            client.flushall()

    def make(**overrides: object) -> Settings:
        values: dict[str, object] = {
            "data_dir": tmp_path / "service",
            **queue,
            "sweep_s": 3600.0,
            "fault_wait_s": 0.01,
            "environment_wait_s": 0.01,
            "threads": 1,
            "device": "cpu",
            # the name by which the test client calls a gateway
            "allowed_hosts": ("testserver",),
            # measuring it takes a worker seconds for each model
            "micro_batch": 8,
            **overrides,
        }
        return Settings.model_validate(values)

    return make


@pytest.fixture
def client(make_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A gateway and a real queue, without workers; on SQLite, or on both databases if a test uses `database_url`."""
    overrides = {}
    if "database_url" in request.fixturenames:
        overrides["database_url"] = SecretStr(request.getfixturevalue("database_url"))
    with TestClient(create_app(make_settings(**overrides)), raise_server_exceptions=False) as opened:
        yield opened
