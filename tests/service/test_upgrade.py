"""A service of the version before is upgraded with everything that it stored."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import SecretStr

from auditcore.evidence.event_log import LogEntry, verify_chain
from auditcore.evidence.signing import PublicKey
from auditcore.evidence.verification import verify_evidence
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.queue.sweeper import Sweeper
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.records import ShardKey
from auditcore_service.store.shards import claim_shard
from auditcore_service.store.tables import METADATA
from auditcore_service.use_cases.collection import Collection
from schema_versions import migrate_to

RECORDED = Path(__file__).parents[1] / "data" / "service-0008.zip"
"""Rows and blobs of a service that was killed: an audit that succeeded, one that runs and one that waits."""

REVISION = "0008"

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", "postgresql", "postgresql_of_an_ordinary_role"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    fixture = "new_postgres_url" if request.param == "postgresql" else "owned_postgres_url"
    found: str = request.getfixturevalue(fixture)
    return found


@pytest.fixture(scope="module")
def recorded() -> tuple[Rows, dict[str, bytes]]:
    with zipfile.ZipFile(RECORDED) as archive:
        blobs = [archive.read(name) for name in archive.namelist() if name.startswith("blobs/")]
        names = [f"sha256:{Path(name).name}" for name in archive.namelist() if name.startswith("blobs/")]
        return json.loads(archive.read("rows.json")), dict(zip(names, blobs, strict=True))


def names_of(rows: Rows) -> list[str]:
    """Tables in an order in which rows can be inserted."""
    return [table.name for table in METADATA.sorted_tables if table.name in rows]


def restore(database: Database, rows: Rows) -> None:
    """Make the database that the version before had."""
    migrate_to(database, REVISION)
    with database.writing() as connection:
        for name in names_of(rows):
            if rows[name]:
                columns = [sqlalchemy.column(column) for column in rows[name][0]]
                connection.execute(sqlalchemy.insert(sqlalchemy.table(name, *columns)), rows[name])
        if connection.dialect.name == "postgresql":
            last = max(row["id"] for row in rows["events"])
            connection.execute(sqlalchemy.text(f"SELECT setval('events_id_seq', {last})"))


def read(database: Database, rows: Rows) -> Rows:
    """What the columns of the version before hold, in the order of the recorded rows."""
    found: Rows = {}
    with database.reading() as connection:
        for name in names_of(rows):
            table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=connection)
            keys = sorted(column.name for column in table.primary_key)
            found[name] = sorted(
                (dict(row) for row in connection.execute(sqlalchemy.select(table)).mappings()),
                key=lambda row: [row[key] for key in keys],
            )
    return found


@pytest.fixture
def upgraded(
    make_settings: Callable[..., Settings], url: str, recorded: tuple[Rows, dict[str, bytes]]
) -> Iterator[TestClient]:
    """A gateway on what the version before left behind."""
    rows, stored = recorded
    settings = make_settings(database_url=SecretStr(url))
    blobs = BlobStore(settings.blobs)
    assert {blobs.put(data) for data in stored.values()} == set(stored)
    with closing(Database(url)) as database:
        restore(database, rows)
    with TestClient(create_app(settings)) as client:
        yield client


def audit_in(rows: Rows, state: str) -> dict[str, Any]:
    (found,) = [row for row in rows["audits"] if row["state"] == state]
    return found


def log_of(client: TestClient) -> list[LogEntry]:
    return [LogEntry.model_validate(item) for item in client.get("/v1/log?limit=500").json()["items"]]


def test_everything_that_was_stored_is_read(upgraded: TestClient, recorded: tuple[Rows, dict[str, bytes]]) -> None:
    rows, stored = recorded
    service: Service = upgraded.app.state.service  # type: ignore[attr-defined]  # of FastAPI
    ended = audit_in(rows, "succeeded")
    audit = f"/v1/audits/{ended['id']}"
    assert {one["id"] for one in upgraded.get("/v1/audits").json()["items"]} == {row["id"] for row in rows["audits"]}

    collection = Collection(
        service.settings, database=service.database, blobs=service.blobs, clock=lambda: time.time() + 86_400
    )
    for _ in range(2):
        done = collection.collect()
        assert (done.set_aside.blobs, done.deleted.blobs) == (0, 0)

    report = upgraded.get(f"{audit}/report")
    assert report.content == stored[ended["report_digest"]]
    for media_type in ("text/html", "application/junit+xml", "text/markdown"):
        assert upgraded.get(f"{audit}/report", headers={"Accept": media_type}).status_code == 200
    pictures = [one["digest"] for one in report.json()["artifacts"]]
    assert pictures
    assert [upgraded.get(f"{audit}/artifacts/{one}").content for one in pictures] == [stored[one] for one in pictures]

    (registration,) = [row for row in rows["registrations"] if row["audit_id"] == ended["id"]]
    evidence = upgraded.get(f"{audit}/evidence").content
    assert evidence.decode() == registration["evidence"]
    keys = [PublicKey.from_pem(one["public_key"].encode()) for one in upgraded.get("/v1/keys").json()["items"]]
    assert verify_evidence(report.content, evidence, keys).findings == ()
    assert [one["principal"] for one in upgraded.get(f"{audit}/sign-offs").json()["items"]] == ["ann@example.org"]

    (batch,) = rows["image_batches"]
    assert upgraded.get(f"/v1/image-batches/{batch['digest']}").json()["images"] == 1
    (policy,) = rows["policies"]
    found = upgraded.get("/v1/policies/gate@1")
    assert json.loads(policy["document"])["conditions"] == found.json()["conditions"]
    assert upgraded.get(f"/v1/policies/{policy['digest']}").content == found.content
    assert [one.hash for one in log_of(upgraded)] == [row["hash"] for row in rows["log_entries"]]
    assert upgraded.get("/v1/audits?verdict=inconclusive").json()["items"][0]["id"] == ended["id"]


def test_the_service_goes_on_where_it_was(upgraded: TestClient, recorded: tuple[Rows, dict[str, bytes]]) -> None:
    rows, _ = recorded
    service: Service = upgraded.app.state.service  # type: ignore[attr-defined]  # of FastAPI
    ended, running, waiting = (audit_in(rows, state) for state in ("succeeded", "running", "queued"))
    audit = f"/v1/audits/{ended['id']}"

    request = json.loads(ended["request"])
    plan = {name: request["plan"][name] for name in ("seed", "explainers", "checks")}
    (key,) = rows["idempotency_keys"]
    with service.database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE idempotency_keys SET created_at = :now"), {"now": time.time()})
    headers = {"Idempotency-Key": key["key"]}
    body = {"model": {"kind": "demo"}, "images": request["images"], "plan": plan, "policy": "gate@1"}
    assert upgraded.post("/v1/audits", json=body, headers=headers).json()["id"] == ended["id"]
    assert upgraded.post("/v1/audits", json={**body, "policy": []}, headers=headers).status_code == 422

    # the worker of the version before is gone, and its shard is computed by another
    (shard,) = [row for row in rows["shards"] if row["audit_id"] == running["id"] and row["state"] == "running"]
    taken = ShardKey(running["id"], shard["wave"], shard["index"])
    monotonic = iter((0.0, 0.0, service.settings.lease_s))
    sweeper = Sweeper(service.settings, database=service.database, queue=service.queue, monotonic=monotonic.__next__)
    for _ in range(2):
        sweeper.sweep()
    with service.database.writing() as connection:
        claimed = claim_shard(connection, taken, now=time.time(), lease_s=9.0)
        assert claimed is not None
    assert upgraded.post(f"/v1/audits/{waiting['id']}/cancel").json()["state"] == "cancelled"

    # the batch and the maps of the version before are used by a new audit, as is the report
    new = upgraded.post("/v1/audits", json={**body, "baseline": {"audit": ended["id"]}})
    assert new.status_code == 202, new.text
    (maps,) = [one["maps"] for one in plan["explainers"] if "maps" in one]
    assert upgraded.delete(f"/v1/maps/{maps}").status_code == 409
    assert upgraded.post(f"{audit}/replay").status_code == 202

    (registration,) = [row for row in rows["registrations"] if row["audit_id"] == ended["id"]]
    assert upgraded.delete(audit).status_code == 204
    assert upgraded.get(audit).status_code == 410
    assert upgraded.get(f"{audit}/evidence").text == registration["evidence"]
    log = log_of(upgraded)
    assert len(log) > len(rows["log_entries"])
    assert list(verify_chain(log)) == []


def test_the_upgrade_can_be_taken_back_and_done_again(url: str, recorded: tuple[Rows, dict[str, bytes]]) -> None:
    rows, _ = recorded
    with closing(Database(url)) as database:
        restore(database, rows)
        before = read(database, rows)
        assert {name: len(found) for name, found in before.items()} == {name: len(rows[name]) for name in rows}
        database.migrate()
        migrate_to(database, REVISION)
        assert read(database, rows) == before
        database.migrate()
        after = read(database, rows)
        for name, found in before.items():
            assert [
                {column: row[column] for column in old} for row, old in zip(after[name], found, strict=True)
            ] == found
