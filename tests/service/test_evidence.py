"""Evidence over HTTP: a gateway that signs, a worker that computes, and the commands that verify."""

from __future__ import annotations

import base64
import io
import json
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr

from auditcore.client import operations
from auditcore.contracts.canonical_json import sha256
from auditcore.evidence.event_log import LogEntry, verify_chain
from auditcore.evidence.signing import PublicKey, SigningKey
from auditcore.evidence.statement import EXTENSION
from auditcore.evidence.verification import verify_evidence
from auditcore_service.cli import verifying
from auditcore_service.embedded import process_tree
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.key_files import SigningKeyUnreadable, create_signing_key
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry, read_log
from auditcore_service.store.shards import list_shards
from auditcore_service.store.tables import LOG_ENTRIES
from command_line import run
from commands_in_process import asking
from small_model import SMALL_MODEL
from worker_in_process import worker_of

PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
POLICY = [{"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": -1.0}]


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Deployment:
    """A gateway, and a worker in this process."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        self.executor = worker_of(self.service)

    def submit(self, **changes: Any) -> str:
        images = [("images", (f"{seed}.png", photo(seed), "image/png")) for seed in range(2)]
        digest = self.client.post("/v1/image-batches", files=images).json()["digest"]
        body = {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": digest}, "plan": PLAN, "policy": POLICY}
        answer = self.client.post("/v1/audits", json=body | changes)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def work(self, audit_id: str) -> None:
        while True:
            with self.service.database.reading("default") as connection:
                queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
            if not queued:
                return
            for key in queued:
                self.executor.run(key)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def log(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("/v1/log?limit=1000").json()["items"]
        return items


@pytest.fixture
def deploy(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Deployment]]:
    opened: list[TestClient] = []

    def make(**overrides: object) -> Deployment:
        # the search for the fastest micro-batch would take most of the time of these tests
        settings = make_settings(micro_batch=2, **overrides)
        client = TestClient(create_app(settings), raise_server_exceptions=False)
        opened.append(client)
        client.__enter__()
        return Deployment(client)

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def deployment(deploy: Callable[..., Deployment], key_file: Path) -> Deployment:
    return deploy(signing_key=key_file)


def public(key_file: Path) -> PublicKey:
    return PublicKey.from_pem(key_file.read_bytes())


def test_an_audit_has_evidence_that_verifies_offline(
    deploy: Callable[..., Deployment], key_file: Path, tmp_path: Path, database_url: str
) -> None:
    deployment = deploy(signing_key=key_file, database_url=SecretStr(database_url))
    audit_id = deployment.submit()
    early = deployment.get(f"/v1/audits/{audit_id}/evidence")
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    deployment.work(audit_id)
    report = deployment.get(f"/v1/audits/{audit_id}/report")
    answer = deployment.get(f"/v1/audits/{audit_id}/evidence")
    assert answer.headers["content-type"] == "application/vnd.dsse.envelope.v1+json"
    found = verify_evidence(report.content, answer.content, [public(key_file)])
    assert found.findings == ()
    assert found.registered_at == deployment.get(f"/v1/audits/{audit_id}").json()["created_at"]
    (listed,) = deployment.get("/v1/keys").json()["items"]
    assert (listed["key_id"], listed["active"]) == (found.key_ids[0], True)

    (tmp_path / "report.json").write_bytes(report.content)
    (tmp_path / "evidence.json").write_bytes(answer.content)
    (tmp_path / "public.pem").write_text(listed["public_key"])
    files = (tmp_path / "report.json", tmp_path / "evidence.json")
    done = run("verify", *files, "--key", tmp_path / "public.pem")
    assert done.exit_code == 0, done.output
    assert "inconclusive" in done.stdout
    (tmp_path / "report.json").write_bytes(report.content.replace(b'"verdict":"inconclusive"', b'"verdict":"pass"'))
    done = run("verify", *files, "--key", tmp_path / "public.pem")
    assert done.exit_code == 1, done.output
    assert f"statement.predicate.{EXTENSION}.report.digest" in done.stdout


def test_a_report_comes_in_the_forms_of_other_tools(deployment: Deployment) -> None:
    audit_id = deployment.submit()
    path = f"/v1/audits/{audit_id}/report"
    for media_type in ("application/vnd.cyclonedx+json", "application/yaml"):
        early = deployment.client.get(path, headers={"Accept": media_type})
        assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    deployment.work(audit_id)
    bom = deployment.client.get(path, headers={"Accept": "application/vnd.cyclonedx+json"})
    assert bom.headers["content-type"] == "application/vnd.cyclonedx+json"
    (component,) = bom.json()["components"]
    digest = component["externalReferences"][0]["hashes"][0]["content"]
    assert f"sha256:{digest}" == sha256(deployment.get(path).content)
    card = deployment.client.get(path, headers={"Accept": "application/yaml"})
    assert card.text.startswith("model-index:")
    again = deployment.client.get(path, headers={"Accept": "application/yaml", "If-None-Match": card.headers["etag"]})
    assert again.status_code == 304


def test_evidence_never_changes_and_is_not_sent_twice(deployment: Deployment) -> None:
    audit_id = deployment.submit()
    deployment.work(audit_id)
    path = f"/v1/audits/{audit_id}/evidence"
    first, second = deployment.get(path), deployment.get(path)
    assert first.content == second.content
    assert first.headers["etag"] == f'"{sha256(first.content).removeprefix("sha256:")}"'
    again = deployment.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert [entry["data"]["evidence"] for entry in deployment.log() if entry["kind"] == "evidence"] == [
        sha256(first.content)
    ]


def test_a_rotated_key_signs_from_now_on_and_the_old_one_stays_listed(
    deploy: Callable[..., Deployment], key_file: Path, tmp_path: Path
) -> None:
    before = deploy(signing_key=key_file)
    signed, waiting = before.submit(), before.submit()
    before.work(signed)
    before.work(waiting)
    kept = before.get(f"/v1/audits/{signed}/evidence").content
    new_file = tmp_path / "new.pem"
    create_signing_key(new_file)
    after = deploy(signing_key=new_file)
    keys = after.get("/v1/keys").json()["items"]
    assert {key["key_id"]: key["active"] for key in keys} == {
        public(key_file).key_id: False,
        public(new_file).key_id: True,
    }
    assert after.get(f"/v1/audits/{signed}/evidence").content == kept
    report = after.get(f"/v1/audits/{waiting}/report").content
    evidence = after.get(f"/v1/audits/{waiting}/evidence").content
    found = verify_evidence(report, evidence, [public(key_file), public(new_file)])
    assert found.findings == ()
    assert found.key_ids == (public(new_file).key_id, public(key_file).key_id)


def test_without_a_key_nothing_is_signed_and_the_way_out_is_said(
    deploy: Callable[..., Deployment], key_file: Path
) -> None:
    deployment = deploy()
    audit_id = deployment.submit()
    deployment.work(audit_id)
    assert deployment.get("/v1/keys").json() == {"items": []}
    for path in (f"/v1/audits/{audit_id}/evidence", "/v1/log/head"):
        answer = deployment.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "signing_not_configured")
        assert "AUDIT_SIGNING_KEY" in answer.json()["detail"]
    assert [entry["kind"] for entry in deployment.log()][:2] == ["submit", "state"]
    later = deploy(signing_key=key_file)
    answer = later.get(f"/v1/audits/{audit_id}/evidence")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_registered")


def test_a_key_that_cannot_be_read_keeps_the_gateway_from_starting(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "wrong.pem").write_text("no key")
    for name in ("missing.pem", "wrong.pem"):
        with pytest.raises(SigningKeyUnreadable, match=name):
            create_app(make_settings(signing_key=tmp_path / name))


def test_what_happens_to_an_audit_is_in_the_log(deployment: Deployment, key_file: Path) -> None:
    audit_id, other = deployment.submit(), deployment.submit(policy=[])
    deployment.work(audit_id)
    deployment.client.post(f"/v1/audits/{other}/cancel")
    deployment.client.post(f"/v1/audits/{other}/cancel")
    entries = deployment.log()
    assert entries[0]["kind"] == "key"
    assert entries[0]["subject"] == public(key_file).key_id
    mine = [(entry["kind"], entry["data"].get("state")) for entry in entries if entry["subject"] == audit_id]
    assert mine == [("submit", None), ("state", "running"), ("state", "finalizing"), ("state", "succeeded")]
    assert [entry["kind"] for entry in entries if entry["subject"] == other] == ["submit", "cancel", "state"]
    report = deployment.get(f"/v1/audits/{audit_id}/report").content
    ended = next(entry["data"] for entry in entries if entry["data"].get("state") == "succeeded")
    assert ended == {"state": "succeeded", "verdict": "inconclusive", "report_digest": sha256(report)}
    assert list(verify_chain(LogEntry.model_validate(entry) for entry in entries)) == []


def test_a_registration_is_stored_with_its_audit_and_holds_no_result(deployment: Deployment) -> None:
    audit_id = deployment.submit()
    with deployment.service.database.reading("default") as connection:
        row = connection.execute(sqlalchemy.text("SELECT * FROM registrations")).mappings().one()
    record = json.loads(base64.b64decode(json.loads(row["envelope"])["payload"]))
    assert row["audit_id"] == record["audit_id"] == audit_id
    assert row["evidence"] is None
    assert row["tenant"] == "default"
    assert record["conditions"][0]["at_least"] == -1.0
    assert record["images"]["files"] == sha256("".join(f"{sha256(photo(seed))}\n" for seed in range(2)).encode())
    submitted = next(entry for entry in deployment.log() if entry["kind"] == "submit")
    assert submitted["data"] == {"request": record["request"], "registration": row["digest"]}
    assert row["digest"] == sha256(row["envelope"].encode())


def test_a_replay_is_compared_with_its_original(deployment: Deployment) -> None:
    audit_id = deployment.submit()
    early = deployment.client.post(f"/v1/audits/{audit_id}/replay")
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    deployment.work(audit_id)
    started = deployment.client.post(f"/v1/audits/{audit_id}/replay")
    assert started.status_code == 202, started.text
    replay_id = started.json()["id"]
    assert started.headers["location"] == f"/v1/audits/{replay_id}"
    assert started.json()["replay_of"] == deployment.get(f"/v1/audits/{replay_id}").json()["replay_of"] == audit_id
    early = deployment.get(f"/v1/audits/{replay_id}/replay")
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    deployment.work(replay_id)
    found = deployment.get(f"/v1/audits/{replay_id}/replay").json()
    assert (found["original"], found["replay"], found["differences"]) == (audit_id, replay_id, [])
    assert found["reproduced"] is True
    exact = deployment.get(f"/v1/audits/{replay_id}/replay?tolerance=0").json()
    assert exact["reproduced"] is True
    logged = [entry["data"] for entry in deployment.log() if entry["kind"] == "submit"]
    assert logged[1]["replay_of"] == audit_id
    assert logged[1]["request"] == logged[0]["request"]
    other = deployment.get(f"/v1/audits/{audit_id}/replay")
    assert (other.status_code, other.json()["code"]) == (404, "not_replayed")
    assert deployment.client.post("/v1/audits/a1/replay").status_code == 404


def test_a_refused_request_leaves_no_trace(deployment: Deployment) -> None:
    before = deployment.log()
    assert deployment.client.post("/v1/audits", json={"model": SMALL_MODEL}).status_code == 422
    assert deployment.log() == before


def test_people_sign_off_a_report_and_nobody_else(deployment: Deployment) -> None:
    audit_id = deployment.submit()
    path = f"/v1/audits/{audit_id}/sign-offs"
    body = {"principal": "Ada Lovelace", "decision": "approve", "comment": "for the pilot only"}
    early = deployment.client.post(path, json=body)
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    deployment.work(audit_id)
    first = deployment.client.post(path, json=body)
    assert first.status_code == 201, first.text
    digest = sha256(deployment.get(f"/v1/audits/{audit_id}/report").content)
    assert first.json() | body == first.json()
    assert first.json()["report"] == digest
    second = deployment.client.post(path, json={"principal": "Bob", "decision": "reject"}).json()
    assert deployment.get(path).json()["items"] == [first.json(), second]
    logged = deployment.log()[-2:]
    assert [(entry["kind"], entry["principal"]) for entry in logged] == [
        ("sign_off", "Ada Lovelace"),
        ("sign_off", "Bob"),
    ]
    for wrong in (
        {"decision": "approve"},
        body | {"principal": "a\0"},
        body | {"decision": "maybe"},
        body | {"more": 1},
    ):
        assert deployment.client.post(path, json=wrong).status_code == 422
    assert deployment.client.post("/v1/audits/a1/sign-offs", json=body).status_code == 404
    assert deployment.get("/v1/audits/a1/sign-offs").status_code == 404


def test_the_log_is_read_in_pages(deployment: Deployment) -> None:
    for _ in range(3):
        deployment.submit()
    seen: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = deployment.get(f"/v1/log?after={after}&limit=2").json()
        seen += page["items"]
        after = page["next_after"]
    assert seen == deployment.log()
    assert [entry["sequence"] for entry in seen] == [1, 2, 3, 4]


ROWS = 5

ROW = LOG_ENTRIES.c
CHANGES: dict[str, Any] = {
    "tenant": "other",
    "sequence": ROW.sequence + 100,
    "time": "2026-01-01T00:00:00.000Z",
    "principal": "eve",
    "kind": "submit",
    "subject": "b",
    "previous": ROW.hash,
    "hash": ROW.previous,
}
TEXTS = ('{"state":"succeeded"}', "no JSON", "[]", '{"number":1e400}', '{"number": 1,"state":"running"}', "")


def tamperings() -> Iterator[tuple[sqlalchemy.Executable, ...]]:
    """Every way to change, remove or swap a row but the last, whose loss only a head shows."""

    def change(row: int, **values: Any) -> sqlalchemy.Executable:
        return sqlalchemy.update(LOG_ENTRIES).where(ROW.sequence == row).values(**values)

    for row in range(1, ROWS):
        for column, value in CHANGES.items():
            yield (change(row, **{column: value}),)
        for text in TEXTS:
            yield (change(row, data=text),)
        yield (sqlalchemy.delete(LOG_ENTRIES).where(ROW.sequence == row),)
        yield change(row, sequence=0), change(row + 1, sequence=row), change(0, sequence=row + 1)


@pytest.fixture
def logged(database_url: str) -> Iterator[Database]:
    """A database whose log has entries."""
    database = Database(database_url)
    database.migrate()
    for number in range(ROWS):
        with database.writing("default") as connection:
            append_entry(connection, "state", "a", {"state": "running", "number": number}, now=float(number))
    yield database
    database.close()


def findings(database: Database) -> list[str]:
    with database.reading("default") as connection:
        return [finding.where for finding in verify_chain(read_log(connection, limit=100))]


def test_tampering_with_any_row_is_found(logged: Database) -> None:
    assert findings(logged) == []
    count = 0
    for statements in tamperings():
        with logged.writing("default") as connection, connection.begin_nested() as transaction:
            for statement in statements:
                assert connection.execute(statement).rowcount == 1  # type: ignore[attr-defined]  # of a change
            found = [finding.where for finding in verify_chain(read_log(connection, limit=100))]
            transaction.rollback()
        assert found, [str(statement) for statement in statements]
        count += 1
    assert count == (ROWS - 1) * (len(CHANGES) + len(TEXTS) + 2)
    assert findings(logged) == []


def test_transactions_at_once_make_one_chain(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    errors: list[BaseException] = []

    def append(number: int) -> None:
        try:
            for _ in range(5):
                with database.writing("default") as connection:
                    append_entry(connection, "state", str(number), {}, now=1.0)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.reading("default") as connection:
        entries = read_log(connection, limit=100)
    assert len(entries) == 30
    assert list(verify_chain(entries)) == []
    database.close()


def test_what_is_rolled_back_is_not_logged(logged: Database) -> None:
    def fail() -> None:
        with logged.writing("default") as connection:
            append_entry(connection, "state", "a", {}, now=9.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with logged.reading("default") as connection:
        assert connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(LOG_ENTRIES)).scalar() == ROWS


def test_tenants_have_chains_of_their_own(logged: Database) -> None:
    with logged.writing("other") as connection:
        entry = append_entry(connection, "state", "a", {}, now=9.0)
    assert (entry.tenant, entry.sequence) == ("other", 1)
    with logged.reading("default") as connection:
        assert len(read_log(connection, limit=100)) == ROWS
    with logged.reading("other") as connection:
        assert read_log(connection, limit=100) == (entry,)


def test_gateways_that_start_at_once_list_one_key(
    make_settings: Callable[..., Settings], key_file: Path, database_url: str
) -> None:
    services = [Service.of(make_settings(signing_key=key_file, database_url=SecretStr(database_url))) for _ in range(4)]
    services[0].database.migrate()
    threads = [threading.Thread(target=service.evidence.publish_key) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(services[0].evidence.public_keys()) == 1
    assert [entry.kind for entry in services[0].evidence.log_after(ANONYMOUS, 0, limit=9)] == ["key"]
    for service in services:
        service.database.close()


def test_the_command_verifies_a_log_in_a_database(
    deployment: Deployment, make_settings: Callable[..., Settings], key_file: Path, tmp_path: Path
) -> None:
    deployment.submit()
    deployment.submit()
    url = make_settings().database
    head = tmp_path / "head.json"
    head.write_bytes(deployment.get("/v1/log/head").content)
    with_head = ("verify-log", "--database", url, "--head", head, "--key", key_file)
    done = run(*with_head)
    assert (done.exit_code, done.stdout.strip()) == (0, "the log holds: 3 entries"), done.output
    with deployment.service.database.writing("default") as connection:
        connection.execute(sqlalchemy.text("DELETE FROM log_entries WHERE sequence = 3"))
    assert run("verify-log", "--database", url).exit_code == 0
    done = run(*with_head)
    assert done.exit_code == 1
    assert "ends at entry 2, but had entry 3" in done.stdout
    with deployment.service.database.writing("default") as connection:
        connection.execute(sqlalchemy.text("UPDATE log_entries SET subject = 'b' WHERE sequence = 1"))
    done = run("verify-log", "--database", url)
    assert done.exit_code == 1
    assert "entry 1.hash" in done.stdout
    head.write_bytes(SigningKey.generate().sign(b"{}", payload_type="t"))
    assert run(*with_head).exit_code == 2
    for wrong in (f"sqlite:///{tmp_path / 'none' / 'at.db'}", f"sqlite:///{head}", "no URL"):
        assert run("verify-log", "--database", wrong).exit_code == 2, wrong
    assert not (tmp_path / "none").exists()
    assert run("verify-log").exit_code == 2
    assert run("verify-log", "--database", url, "--head", head).exit_code == 2


def test_a_head_that_another_key_signed_is_found(deployment: Deployment, tmp_path: Path) -> None:
    deployment.submit()
    head = tmp_path / "head.json"
    head.write_bytes(deployment.get("/v1/log/head").content)
    stranger = tmp_path / "stranger.pem"
    create_signing_key(stranger)
    with deployment.service.database.reading("default") as connection:
        entries = read_log(connection, limit=100)
    count, found = verifying.verify_log(entries, head, [stranger])
    assert count == len(entries)
    assert [finding.where for finding in found] == [str(head)]


def test_the_client_reads_a_log_page_by_page(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.submit()
    deployment.submit()

    def answer(request: httpx.Request) -> httpx.Response:
        found = deployment.get(request.url.raw_path.decode())
        return httpx.Response(found.status_code, content=found.content, request=request)

    monkeypatch.setattr(operations, "LOG_PAGE", 2)
    with asking(httpx.MockTransport(answer)):
        entries = list(verifying.entries_of_service("http://service"))
    assert [entry.sequence for entry in entries] == [1, 2, 3]
    assert list(verify_chain(entries)) == []


def test_a_key_is_made_once_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    done = run("signing-key", path, "--create")
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = path.read_bytes()
    assert done.stdout == public(path).pem
    assert public(path).key_id in done.stderr
    again = run("signing-key", path, "--create")
    assert again.exit_code == 2
    assert "never overwritten" in again.stderr
    assert path.read_bytes() == made
    assert run("signing-key", path).stdout == done.stdout
    assert run("signing-key", tmp_path / "none.pem").exit_code == 2


def test_verify_says_what_it_cannot_read(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    assert run("verify", tmp_path / "report.json", tmp_path / "none.json", "--key", key_file).exit_code == 2
    done = run("verify", tmp_path / "report.json", tmp_path / "report.json")
    assert done.exit_code == 2
    assert "--key" in done.stderr


def test_the_embedded_service_makes_its_key_and_workers_do_not_get_it(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(port=0)
    embedded = EmbeddedService(settings)
    settings.data_dir.mkdir(parents=True)
    embedded._choose_signing_key()
    path = settings.data_dir.absolute() / "signing-key.pem"
    assert embedded.settings.signing_key == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = path.read_bytes()
    again = EmbeddedService(settings)
    again._choose_signing_key()
    assert path.read_bytes() == made
    given: list[dict[str, str]] = []
    monkeypatch.setattr(
        process_tree, "SupervisedProcess", lambda *_args, environment, **_kwargs: given.append(environment)
    )
    embedded._folders = tempfile.TemporaryDirectory()
    embedded._worker(0)
    embedded._folders.cleanup()
    assert "AUDIT_DATA_DIR" in given[0]
    assert "AUDIT_SIGNING_KEY" not in given[0]
