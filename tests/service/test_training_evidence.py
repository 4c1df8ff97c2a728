"""Evidence of trainings over HTTP, from the data to the weights and from the weights to an audit of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from auditcore.contracts.canonical_json import sha256
from auditcore.evidence.event_log import LogEntry, verify_chain
from auditcore.evidence.signing import PublicKey
from auditcore.evidence.training_verification import verify_training_evidence
from auditcore.evidence.verification import verify_evidence
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from command_line import run
from service_trainings import ALLOWED, MODEL, body_of, store_digits
from small_model import SMALL_MODEL
from two_tenants import OURS, THEIRS, photo, request, train, work
from worker_in_process import worker_of

AUDIT = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}


class Deployment:
    """A gateway, and a worker in this process."""

    def __init__(self, settings: Settings) -> None:
        self.client = TestClient(create_app(settings), raise_server_exceptions=False)
        self.client.__enter__()
        self.service: Service = self.client.app.state.service  # type: ignore[attr-defined]
        self.images = store_digits(self.service)

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Submit something; the answer is its path."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["links"]["self"])

    def work(self) -> None:
        worker = worker_of(self.service)
        while worker.run_next():
            pass

    def trained(self) -> str:
        """Path of a training that has succeeded."""
        path = self.post("/v1/trainings", body_of(self.images, epochs=1))
        self.work()
        return path

    def get(self, path: str) -> bytes:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content

    def refusal(self, path: str) -> tuple[int, str]:
        answer = self.client.get(path)
        return answer.status_code, answer.json()["code"]


@pytest.fixture
def deploy(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Deployment]]:
    opened: list[Deployment] = []

    def make(**overrides: object) -> Deployment:
        opened.append(Deployment(make_settings(micro_batch=2, **(ALLOWED | overrides))))
        return opened[-1]

    yield make
    for deployment in opened:
        deployment.client.__exit__(None, None, None)


def public(key_file: Path) -> PublicKey:
    return PublicKey.from_pem(key_file.read_bytes())


def test_the_chain_from_data_to_weights_to_their_audit_verifies_offline(
    deploy: Callable[..., Deployment], key_file: Path, tmp_path: Path, database_url: str
) -> None:
    deployment = deploy(signing_key=key_file, database_url=SecretStr(database_url))
    training = deployment.post("/v1/trainings", body_of(deployment.images))
    assert deployment.refusal(f"{training}/evidence") == (404, "report_not_ready")
    deployment.work()
    status = json.loads(deployment.get(training))
    assert status["links"]["evidence"] == f"{training}/evidence"
    answer = deployment.client.get(f"{training}/evidence")
    assert answer.headers["content-type"] == "application/vnd.dsse.envelope.v1+json"
    same = deployment.client.get(f"{training}/evidence", headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304
    report, weights = deployment.get(f"{training}/report"), deployment.get(f"{training}/weights")
    found = verify_training_evidence(report, answer.content, [public(key_file)], weights=weights)
    assert found.findings == ()
    assert (found.registered_at, found.weights) == (status["created_at"], sha256(weights))
    assert found.training_images == json.loads(report)["data"]["training_digest"]

    # the audit of these weights names the report that this evidence is about
    model = json.loads(report)["trained"]["reference"]
    audit = deployment.post("/v1/audits", {"model": model, "images": deployment.images, "plan": AUDIT})
    other = deployment.post("/v1/audits", {"model": MODEL, "images": deployment.images, "plan": AUDIT})
    deployment.work()
    audited = verify_evidence(
        deployment.get(f"{audit}/report"), deployment.get(f"{audit}/evidence"), [public(key_file)]
    )
    assert audited.findings == ()
    (named,) = audited.trainings
    assert (named.training_id, named.weights, named.report) == (status["id"], sha256(weights), sha256(report))
    random = verify_evidence(deployment.get(f"{other}/report"), deployment.get(f"{other}/evidence"), [public(key_file)])
    assert (random.findings, random.trainings) == ((), ())
    log = json.loads(deployment.get("/v1/log"))["items"]
    kinds = [(entry["kind"], entry["data"]) for entry in log if entry["subject"] == status["id"]]
    assert kinds[0][0] == "submit"
    assert kinds[0][1]["registration"].startswith("sha256:")
    assert kinds[-1] == ("evidence", {"evidence": sha256(answer.content), "key": found.key_ids[0]})
    assert list(verify_chain(LogEntry.model_validate(entry) for entry in log)) == []

    names = ("report", "evidence", "weights", "audit", "audit-evidence")
    of_audit = (deployment.get(f"{audit}/report"), deployment.get(f"{audit}/evidence"))
    files = dict(zip(names, (report, answer.content, weights, *of_audit), strict=True))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    key = ("--key", key_file)
    done = run("verify", tmp_path / "report", tmp_path / "evidence", "--weights", tmp_path / "weights", *key)
    assert done.exit_code == 0, done.output
    assert f"it made the weights {sha256(weights)}; the file is this one" in done.stdout
    done = run("verify", tmp_path / "audit", tmp_path / "audit-evidence", *key)
    assert done.exit_code == 0, done.output
    assert f"were made by training {status['id']}, whose report is {sha256(report)}" in done.stdout
    (tmp_path / "weights").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    done = run("verify", tmp_path / "report", tmp_path / "evidence", "--weights", tmp_path / "weights", *key)
    assert done.exit_code == 1, done.output
    assert "weights: is" in done.stdout
    for report_file, evidence_file, options, words in (
        ("audit", "audit-evidence", ("--weights", tmp_path / "weights"), "--weights belongs to the report of a"),
        ("report", "audit-evidence", (), "no statement about a training"),
        ("audit", "evidence", (), "no statement about an audit"),
    ):
        done = run("verify", tmp_path / report_file, tmp_path / evidence_file, *options, *key)
        assert (done.exit_code, words in done.stderr) == (2, True), done.output


def test_the_first_training_that_made_the_weights_is_named(deploy: Callable[..., Deployment], key_file: Path) -> None:
    deployment = deploy(signing_key=key_file)
    first, second = deployment.trained(), deployment.trained()
    reports = [deployment.get(f"{one}/report") for one in (first, second)]
    weights = [json.loads(one)["trained"]["weights"] for one in reports]
    assert weights[0] == weights[1]
    model = json.loads(reports[1])["trained"]["reference"]
    audit = deployment.post("/v1/audits", {"model": model, "images": deployment.images, "plan": AUDIT})
    deployment.work()
    audited = verify_evidence(
        deployment.get(f"{audit}/report"), deployment.get(f"{audit}/evidence"), [public(key_file)]
    )
    assert [one.report for one in audited.trainings] == [sha256(reports[0])]


def test_evidence_of_a_training_stays_when_it_is_deleted(deploy: Callable[..., Deployment], key_file: Path) -> None:
    deployment = deploy(signing_key=key_file)
    path = deployment.trained()
    report, weights = deployment.get(f"{path}/report"), deployment.get(f"{path}/weights")
    # nobody has asked for its evidence before
    assert deployment.client.delete(path).status_code == 204
    assert f"its evidence stays at {path}/evidence" in deployment.client.get(path).json()["detail"]
    evidence = deployment.get(f"{path}/evidence")
    assert verify_training_evidence(report, evidence, [public(key_file)], weights=weights).findings == ()
    assert json.loads(deployment.get("/v1/log"))["items"][-1]["data"]["evidence"] == sha256(evidence)
    # the id of a training is none of an audit, also afterwards
    assert deployment.refusal(path.replace("trainings", "audits") + "/evidence") == (404, "not_found")


def test_without_a_key_there_is_no_evidence(deploy: Callable[..., Deployment], key_file: Path) -> None:
    deployment = deploy()
    path = deployment.trained()
    assert deployment.refusal(f"{path}/evidence") == (404, "signing_not_configured")
    later = deploy(signing_key=key_file)
    answer = later.client.get(f"{path}/evidence")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_registered")
    assert "its plan was not registered" in answer.json()["detail"]
    assert later.client.delete(path).status_code == 204
    assert later.refusal(f"{path}/evidence") == (410, "deleted")


def test_the_training_of_another_tenant_is_not_named(make_settings: Callable[..., Settings], key_file: Path) -> None:
    service = Service.of(make_settings(signing_key=key_file, micro_batch=2))
    service.database.migrate()
    training_id = train(service, OURS)
    weights = service.trainings.file(OURS, service.trainings.weights_digest(OURS, training_id))
    # the same file, which the other tenant has from elsewhere
    digest = service.blobs.of(THEIRS.tenant).put(weights)
    model = SMALL_MODEL | {"weights": {"uri": f"blob:{digest}"}}
    named = {}
    for owner in (OURS, THEIRS):
        batch = service.batches.store(owner, [photo()]).digest
        audit_id = service.audits.submit(owner, request(batch, model=model)).id
        assert work(service, audit_id).state == "succeeded"
        found = verify_evidence(
            service.audits.report(owner, audit_id), service.evidence.of_audit(owner, audit_id), [public(key_file)]
        )
        assert found.findings == ()
        named[owner] = [one.training_id for one in found.trainings]
    service.database.close()
    assert named == {OURS: [training_id], THEIRS: []}
