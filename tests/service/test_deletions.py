"""What DELETE removes, what it refuses, and what stays; files are looked for in the folder of the service."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr
from safetensors.numpy import save

from auditcore.contracts.canonical_json import sha256
from auditcore.errors import InvalidRequest
from auditcore.evidence.event_log import LogEntry, verify_chain
from auditcore.evidence.signing import PublicKey
from auditcore.evidence.verification import verify_evidence
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.key_files import create_signing_key
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.settings import Settings
from auditcore_service.store.audit_inputs import AuditInput
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.records import NewShard, ShardKey
from auditcore_service.store.shards import claim_shard, complete_shard, list_shards
from auditcore_service.store.tables import (
    AUDIT_INPUTS,
    AUDIT_TAGS,
    AUDITS,
    EVENTS,
    FROZEN_IMAGES,
    IDEMPOTENCY_KEYS,
    MAP_FILES,
    PICTURES,
    REGISTRATIONS,
    SHARDS,
)
from auditcore_service.use_cases.audit_uploads import use_uploads
from auditcore_service.use_cases.collection import Collected, Collection
from auditcore_service.use_cases.refusals import Deleted, NotFound, UsedByAudit
from auditcore_service.worker.execution import Executor
from small_model import SMALL_MODEL
from worker_in_process import worker_of

HOUR_S = 3600.0
MAPS = save({"maps": np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)})
PLAN = {
    "explainers": [{"kind": "gradient"}, {"kind": "precomputed", "maps": sha256(MAPS)}],
    "checks": [{"kind": "complexity"}],
}
UNKNOWN = "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11"


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def upload(client: TestClient, *seeds: int) -> str:
    images = [("images", (f"{seed}.png", photo(seed), "image/png")) for seed in seeds or (0, 1)]
    digest: str = client.post("/v1/image-batches", files=images).json()["digest"]
    return digest


def upload_maps(client: TestClient) -> str:
    digest: str = client.post("/v1/maps", files={"maps": ("maps.safetensors", MAPS)}).json()["digest"]
    return digest


def submit(client: TestClient, batch: str, *, key: str | None = None, **changes: Any) -> str:
    body = {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": batch}, "plan": PLAN, **changes}
    answer = client.post("/v1/audits", json=body, headers={} if key is None else {"Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def finish(client: TestClient, audit_id: str) -> None:
    """Play the worker: complete every shard, with a report that says nothing."""
    service = service_of(client)
    digest = service.blobs.put(b"{}")
    with service.database.writing() as connection:
        for shard in list_shards(connection, audit_id):
            assert claim_shard(connection, shard.key, now=1.0, lease_s=9.0)
            complete_shard(connection, shard.key, attempt=1, result_digest=digest, now=2.0, verdict="pass")


def work(executor: Executor, service: Service, audit_id: str) -> None:
    while True:
        with service.database.reading() as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            return
        for key in queued:
            executor.run(key)


def log(client: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/v1/log?limit=1000").json()["items"]
    return items


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


both_databases = pytest.mark.usefixtures("database_url")


@pytest.fixture
def open_client(
    make_settings: Callable[..., Settings], request: pytest.FixtureRequest
) -> Iterator[Callable[..., TestClient]]:
    opened: list[TestClient] = []

    def make(**overrides: object) -> TestClient:
        if "database_url" in request.fixturenames:
            overrides["database_url"] = SecretStr(request.getfixturevalue("database_url"))
        # the search for the fastest micro-batch would take most of the time of these tests
        settings = make_settings(micro_batch=2, **overrides)
        client = TestClient(create_app(settings), raise_server_exceptions=False)
        opened.append(client)
        return client.__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client: Callable[..., TestClient]) -> TestClient:
    return open_client()


def collect_after(client: TestClient, hours: float) -> Collected:
    """A collection as it will be in some hours."""
    service = service_of(client)
    later = Collection(
        service.settings, database=service.database, blobs=service.blobs, clock=lambda: time.time() + hours * HOUR_S
    )
    return later.collect()


@both_databases
def test_what_is_deleted_is_gone_from_disk_and_its_evidence_stays(
    open_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    create_signing_key(tmp_path / "key.pem")
    client = open_client(signing_key=tmp_path / "key.pem")
    service, folder = service_of(client), tmp_path / "service" / "blobs"
    executor = worker_of(service)
    batch, maps = upload(client), upload_maps(client)
    audit_id = submit(client, batch, key="a key", tags={"model": "v7"})
    work(executor, service, audit_id)
    report = client.get(f"/v1/audits/{audit_id}/report")
    pictures = {one["digest"].removeprefix("sha256:") for one in report.json()["artifacts"]}
    before = files(folder)
    assert pictures
    assert pictures < before

    # everything that is stored is referenced
    assert collect_after(client, 3) == Collected()
    assert files(folder) == before

    deleted = client.delete(f"/v1/audits/{audit_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in ("", "/report", "/events", "/sign-offs", "/replay", f"/artifacts/sha256:{min(pictures)}"):
        gone = client.get(f"/v1/audits/{audit_id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted"), path
    assert "its evidence stays at" in client.get(f"/v1/audits/{audit_id}").json()["detail"]
    assert client.delete(f"/v1/audits/{audit_id}").status_code == 410
    assert client.get("/v1/audits").json()["items"] == []
    with service.database.reading() as connection:
        for table in (AUDITS, AUDIT_INPUTS, AUDIT_TAGS, EVENTS, FROZEN_IMAGES, IDEMPOTENCY_KEYS, PICTURES, SHARDS):
            rows = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(table)).scalar_one()
            assert rows == 0, table.name
        assert len(connection.execute(sqlalchemy.select(REGISTRATIONS)).all()) == 1

    # nobody had asked for the evidence before
    evidence = client.get(f"/v1/audits/{audit_id}/evidence")
    public = PublicKey.from_pem((tmp_path / "key.pem").read_bytes())
    assert verify_evidence(report.content, evidence.content, [public]).findings == ()
    *earlier, entry = log(client)
    assert [one["kind"] for one in earlier][-1] == "evidence"
    assert (entry["kind"], entry["subject"], entry["principal"]) == ("delete", audit_id, None)
    assert entry["data"] == {
        "what": "audit",
        "reason": "request",
        "state": "succeeded",
        "verdict": "not_evaluated",
        "report": sha256(report.content),
        "evidence": sha256(evidence.content),
    }
    assert list(verify_chain(LogEntry.model_validate(one) for one in log(client))) == []

    uploads = {maps.removeprefix("sha256:"), *(sha256(photo(seed)).removeprefix("sha256:") for seed in range(2))}
    assert collect_after(client, 0) == Collected()  # what was just stored may be part of an upload
    assert collect_after(client, 3).set_aside.blobs == len(before - uploads)
    assert collect_after(client, 1) == Collected()  # what was just set aside stays for a while
    freed = collect_after(client, 3).deleted
    assert freed.blobs == len(before - uploads)
    assert files(folder) == uploads

    for path in (f"/v1/image-batches/{batch}", f"/v1/maps/{maps}"):
        assert client.delete(path).status_code == 204
        assert client.delete(path).status_code == 410
    assert client.get(f"/v1/image-batches/{batch}").status_code == 410
    for _ in range(2):
        collect_after(client, 3)
    assert files(folder) == set()


@both_databases
def test_what_an_audit_under_way_needs_is_not_deleted(client: TestClient) -> None:
    batch, maps = upload(client), upload_maps(client)
    audit_id = submit(client, batch)
    refused = client.delete(f"/v1/audits/{audit_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "audit_under_way")
    assert f"/v1/audits/{audit_id}/cancel" in refused.json()["detail"]
    for path in (f"/v1/image-batches/{batch}", f"/v1/maps/{maps}"):
        refused = client.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "used_by_audit")
        assert audit_id in refused.json()["detail"]
    client.post(f"/v1/audits/{audit_id}/cancel")
    for path in (f"/v1/image-batches/{batch}", f"/v1/maps/{maps}", f"/v1/audits/{audit_id}"):
        assert client.delete(path).status_code == 204
    # without a signing key there was no evidence that could stay
    assert "evidence" not in client.get(f"/v1/audits/{audit_id}").json()["detail"]
    assert client.get(f"/v1/audits/{audit_id}/evidence").status_code == 410


@pytest.mark.parametrize("what", ["batch", "maps"])
def test_a_replay_says_that_an_upload_was_deleted(client: TestClient, what: str) -> None:
    batch, maps = upload(client), upload_maps(client)
    audit_id = submit(client, batch)
    finish(client, audit_id)
    path, field = {
        "batch": (f"/v1/image-batches/{batch}", "#/images/digest"),
        "maps": (f"/v1/maps/{maps}", "#/plan/explainers/1/maps"),
    }[what]
    assert client.delete(path).status_code == 204
    assert client.get(f"/v1/audits/{audit_id}/report").status_code == 200
    refused = client.post(f"/v1/audits/{audit_id}/replay")
    assert refused.status_code == 422
    assert "was deleted at" in refused.json()["detail"]
    assert refused.json()["errors"][0]["pointer"] == field
    # an upload of the same bytes undoes it
    assert (upload(client), upload_maps(client)) == (batch, maps)
    assert client.post(f"/v1/audits/{audit_id}/replay").status_code == 202


def test_a_comparison_says_that_the_original_was_deleted(client: TestClient) -> None:
    batch, _ = upload(client), upload_maps(client)
    original = submit(client, batch)
    finish(client, original)
    replay = client.post(f"/v1/audits/{original}/replay").json()["id"]
    finish(client, replay)
    assert client.delete(f"/v1/audits/{original}").status_code == 204
    answer = client.get(f"/v1/audits/{replay}/replay")
    assert answer.status_code == 410
    assert original in answer.json()["detail"]


def test_the_key_of_a_deleted_audit_is_free(client: TestClient) -> None:
    batch, _ = upload(client), upload_maps(client)
    first = submit(client, batch, key="a key")
    assert submit(client, batch, key="a key") == first
    client.post(f"/v1/audits/{first}/cancel")
    client.delete(f"/v1/audits/{first}")
    assert submit(client, batch, key="a key") != first


def test_what_never_was_is_not_found(client: TestClient) -> None:
    digest = f"sha256:{'0' * 64}"
    for objects, names in {"audits": (UNKNOWN, "x"), "image-batches": (digest, "x"), "maps": (digest, "x")}.items():
        for name in names:
            answer = client.delete(f"/v1/{objects}/{name}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@both_databases
def test_another_tenant_sees_neither_the_object_nor_that_it_was_deleted(client: TestClient) -> None:
    service = service_of(client)
    other = Principal("other", "mallory", ANONYMOUS.scopes)
    batch, maps = upload(client), upload_maps(client)
    audit_id = submit(client, batch)
    finish(client, audit_id)

    def refusals() -> list[str]:
        found = []
        for delete, one in (
            (service.deletions.audit, audit_id),
            (service.deletions.batch, batch),
            (service.deletions.maps, maps),
        ):
            with pytest.raises(NotFound) as refused:
                delete(other, one)
            assert not isinstance(refused.value, Deleted)
            found.append(refused.value.message.replace(one, UNKNOWN))
        with pytest.raises(NotFound, match=UNKNOWN):
            service.audits.get(other, UNKNOWN)
        return found

    before = refusals()
    for path in (f"/v1/audits/{audit_id}", f"/v1/image-batches/{batch}", f"/v1/maps/{maps}"):
        assert client.delete(path).status_code == 204
    assert refusals() == before
    with service.database.reading("default") as connection:
        assert connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(MAP_FILES)).scalar_one() == 0


@both_databases
def test_a_deletion_waits_for_a_submission_that_uses_the_batch(client: TestClient) -> None:
    service, batch = service_of(client), upload(client)
    inputs = frozenset({AuditInput("batch", batch)})
    outcome: list[BaseException] = []

    def delete() -> None:
        try:
            service.deletions.batch(ANONYMOUS, batch)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            outcome.append(error)

    thread = threading.Thread(target=delete)
    with service.database.writing("default") as connection:
        use_uploads(connection, inputs, now=1.0)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        shards = [NewShard(wave=0, index=0, kind="assemble", start=0, stop=1, weight=1.0)]
        insert_audit(
            connection, audit_id=UNKNOWN, request="{}", plan="{}", images=1, shards=shards, now=1.0, inputs=inputs
        )
    thread.join(30)
    assert [type(error) for error in outcome] == [UsedByAudit]
    assert client.get(f"/v1/image-batches/{batch}").status_code == 200


def test_a_submission_finds_a_batch_deleted_a_moment_ago(client: TestClient) -> None:
    service, batch, maps = service_of(client), upload(client), upload_maps(client)
    service.deletions.batch(ANONYMOUS, batch)
    service.deletions.maps(ANONYMOUS, maps)
    with service.database.writing("default") as connection:
        with pytest.raises(InvalidRequest, match=f"{batch} was deleted at"):
            use_uploads(connection, {AuditInput("batch", batch)}, now=1.0)
        with pytest.raises(InvalidRequest, match=f"{maps} was deleted at"):
            use_uploads(connection, {AuditInput("maps", maps)}, now=1.0)


def test_a_worker_that_is_busy_with_a_deleted_audit_stores_nothing(client: TestClient) -> None:
    service, batch, _ = service_of(client), upload(client), upload_maps(client)
    audit_id = submit(client, batch)
    with service.database.writing() as connection:
        assert claim_shard(connection, ShardKey(audit_id, 0, 0), now=1.0, lease_s=9.0)
        connection.execute(sqlalchemy.update(AUDITS).values(state="failed", finished_at=2.0))
    assert client.delete(f"/v1/audits/{audit_id}").status_code == 204
    with service.database.writing() as connection:
        step = complete_shard(
            connection, ShardKey(audit_id, 0, 0), attempt=1, result_digest=sha256(b"a result"), now=3.0
        )
        assert not step.applied
