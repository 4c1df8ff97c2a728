"""Names and tags of audits, and what a list of audits can be filtered by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy
from fastapi.testclient import TestClient

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.service import Service
from auditcore_service.store.audit_filters import AuditFilter
from auditcore_service.store.audit_inputs import AuditInput, insert_inputs
from auditcore_service.store.audits import insert_audit, list_audits
from auditcore_service.store.contents import AuditContents
from auditcore_service.store.database import Database
from auditcore_service.store.records import NewShard, ShardKey
from auditcore_service.store.shards import claim_shard, complete_shard
from auditcore_service.store.tables import AUDITS
from small_model import SMALL_MODEL

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEIGHTS = "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LOADED = f"sha256:{'a' * 64}"


def body(**changes: Any) -> dict[str, Any]:
    images = {"kind": "inline", "images": [{"data": PIXEL}]}
    return {"model": {"kind": "demo"}, "images": images, "plan": {"preset": "quick"}, **changes}


def submit(client: TestClient, **changes: Any) -> str:
    answer = client.post("/v1/audits", json=body(**changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def found(client: TestClient, *filters: tuple[str, str]) -> list[str]:
    answer = client.get("/v1/audits", params=[*filters])
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def complete(client: TestClient, audit_id: str, *, verdict: str) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    digest = service.blobs.put(b"{}")
    with service.database.writing() as connection:
        for wave in range(2):
            key = ShardKey(audit_id, wave, 0)
            assert claim_shard(connection, key, now=1.0, lease_s=9.0)
            contents = AuditContents(models=frozenset({LOADED}))
            complete_shard(
                connection, key, attempt=1, result_digest=digest, now=2.0, verdict=verdict, contents=contents
            )


def test_requests_without_name_and_tags_keep_their_digests() -> None:
    plain = AuditRequest.model_validate(body())
    assert "name" not in plain.model_dump(mode="json")
    assert "tags" not in plain.model_dump(mode="json")
    assert digest_of(plain) == "sha256:a885c47adb2ae0e897551e353070294dc6865f9f510b730db89aa6cea19096f1"
    assert digest_of(AuditRequest.model_validate(body(name="nightly"))) != digest_of(plain)


@pytest.mark.usefixtures("database_url")
def test_audits_are_found_by_every_filter(client: TestClient) -> None:
    one = submit(client, name="nightly", tags={"model": "v7", "team": "scans"})
    two = submit(client, name="nightly", tags={"model": "v8", "team": "scans", "url": "https://ci/1:2"})
    three = submit(client, model=SMALL_MODEL)
    complete(client, two, verdict="fail")

    status = client.get(f"/v1/audits/{one}").json()
    assert (status["name"], status["tags"]) == ("nightly", {"model": "v7", "team": "scans"})
    status = client.get(f"/v1/audits/{three}").json()
    assert (status["name"], status["tags"]) == (None, {})
    items = client.get("/v1/audits").json()["items"]
    assert [item["tags"].get("model") for item in items] == [None, "v8", "v7"]

    assert found(client, ("name", "nightly")) == [two, one]
    assert found(client, ("name", "night")) == []
    assert found(client, ("tag", "team:scans")) == [two, one]
    assert found(client, ("tag", "team:scans"), ("tag", "model:v7")) == [one]
    assert found(client, ("tag", "model:v7"), ("tag", "model:v8")) == []
    assert found(client, ("tag", "url:https://ci/1:2")) == [two]
    assert found(client, ("verdict", "fail")) == [two]
    assert found(client, ("verdict", "pass")) == []
    assert found(client, ("model", WEIGHTS)) == [two, one]
    assert found(client, ("model", LOADED)) == [two]
    assert found(client, ("state", "queued"), ("model", WEIGHTS)) == [one]


def test_a_page_that_follows_has_the_same_filters(client: TestClient) -> None:
    wanted = [submit(client, tags={"team": "scans", "run": "a+b"}) for _ in range(3)]
    submit(client)
    answer = client.get("/v1/audits", params=[("tag", "team:scans"), ("tag", "run:a+b"), ("limit", "2")])
    link = answer.headers["link"]
    assert link.endswith('; rel="next"')
    following = client.get(link.removeprefix("<").partition(">")[0])
    assert [item["id"] for page in (answer, following) for item in page.json()["items"]] == wanted[::-1]
    assert "link" not in following.headers


def test_times_bound_the_list(database: Database) -> None:
    for number in range(4):
        store(database, f"{number}", now=float(number))
    with database.reading("default") as connection:
        wanted = AuditFilter(created_after=1.0, created_before=3.0)
        assert [audit.id for audit in list_audits(connection, after=None, limit=9, wanted=wanted)] == ["2", "1"]


def test_times_are_rfc_3339(client: TestClient) -> None:
    audit_id = submit(client)
    created = datetime.fromisoformat(client.get(f"/v1/audits/{audit_id}").json()["created_at"])
    before, after = (created.replace(year=created.year + step).astimezone(UTC) for step in (-1, 1))
    assert found(client, ("created_after", before.isoformat()), ("created_before", after.isoformat())) == [audit_id]
    assert found(client, ("created_after", after.isoformat())) == []
    assert found(client, ("created_before", before.isoformat())) == []
    refused = client.get("/v1/audits", params={"created_after": "2026-11-22T12:00:00"})
    assert refused.status_code == 422
    assert "has no zone" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"name": "two\nlines"}, "#/name"),
        ({"name": "x" * 201}, "#/name"),
        ({"tags": {"a:b": "c"}}, "#/tags/a:b"),
        ({"tags": {"a": ""}}, "#/tags/a"),
        ({"tags": {"a": "x" * 201}}, "#/tags/a"),
        ({"tags": {"a": 1}}, "#/tags/a"),
        ({"tags": {str(number): "x" for number in range(33)}}, "#/tags"),
    ],
)
def test_names_and_tags_have_limits(client: TestClient, changes: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/audits", json=body(**changes))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("tag", ["team", ":scans", "team:", "team:a\0b"])
def test_a_tag_is_key_and_value(client: TestClient, tag: str) -> None:
    answer = client.get("/v1/audits", params={"tag": tag})
    assert answer.status_code == 422
    assert "write a tag as `key:value`" in answer.json()["detail"]


MANY = (
    """INSERT INTO audits (id, state, request, plan, images, created_at)
    SELECT i::text, 'queued', '{}', '{}', 1, i FROM generate_series(1, 5000) i""",
    "INSERT INTO audit_tags (audit_id, key, value) SELECT i::text, 'run', i::text FROM generate_series(1, 5000) i",
    """INSERT INTO audit_inputs (audit_id, kind, digest)
    SELECT i::text, 'model', 'sha256:' || lpad(i::text, 64, '0') FROM generate_series(1, 5000) i""",
    "ANALYZE audits, audit_tags, audit_inputs",
)


def test_postgresql_finds_tags_and_models_by_an_index(new_postgres_url: str) -> None:
    database = Database(new_postgres_url)
    try:
        database.migrate()
        with database.writing() as connection:
            for statement in MANY:
                connection.execute(sqlalchemy.text(statement))
        with database.reading("default") as connection:
            for wanted, index in (
                (AuditFilter(tags=(("run", "7"),)), "ix_audit_tags_tenant_audit_tags_key_audit_tags_value"),
                (AuditFilter(model=f"sha256:{7:064}"), "ix_audit_inputs_tenant_audit_inputs_kind_audit_inputs_digest"),
            ):
                query = sqlalchemy.select(AUDITS.c.id).where(*wanted.conditions(connection))
                text = query.compile(connection, compile_kwargs={"literal_binds": True})
                plan = json.dumps(connection.execute(sqlalchemy.text(f"EXPLAIN (FORMAT JSON) {text}")).scalar_one())
                assert index in plan
                assert "pk_audits" in plan
                assert "Seq Scan" not in plan
                assert connection.execute(query).scalars().all() == ["7"]
    finally:
        database.close()


def store(database: Database, audit_id: str, *, now: float, model: str | None = None) -> None:
    shards = [NewShard(wave=0, index=0, kind="assemble", start=0, stop=1, weight=1.0)]
    with database.writing("default") as connection:
        insert_audit(
            connection,
            audit_id=audit_id,
            request="{}",
            plan="{}",
            images=1,
            shards=shards,
            now=now,
            inputs=[] if model is None else [AuditInput("model", model)],
        )


def test_what_is_listed_twice_is_stored_once(database: Database) -> None:
    store(database, "a", now=1.0, model=LOADED)
    with database.writing() as connection:
        insert_inputs(connection, "a", [AuditInput("model", LOADED), AuditInput("model", WEIGHTS)])
    with database.reading("default") as connection:
        for digest in (LOADED, WEIGHTS):
            assert len(list_audits(connection, after=None, limit=9, wanted=AuditFilter(model=digest))) == 1
    with database.reading("other") as connection:
        assert list_audits(connection, after=None, limit=9, wanted=AuditFilter(model=LOADED)) == ()
