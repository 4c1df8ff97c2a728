"""Audits of signed models in a service: verified when they are submitted and when they are loaded, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import digits
from auditcore.contracts.report import AuditReport
from auditcore.evidence.signing import PublicKey, payload_of, read_envelope
from auditcore.evidence.statement import EXTENSION
from auditcore.evidence.verification import verify_evidence
from auditcore.report.markdown import render_markdown
from auditcore.report.page.html import render_html
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.key_files import create_signing_key
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from signed_models import key_id, sign, write_key
from worker_in_process import worker_of

PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}]}


class Deployment:
    """A gateway that signs evidence, a worker, and the signed weights of a model."""

    def __init__(self, client: TestClient, weights: Path, signature: Path) -> None:
        self.client = client
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        self.worker = worker_of(self.service)
        self.weights, self.signature = weights, signature

    def body(self) -> dict[str, Any]:
        files = [("images", (f"{number}.png", digits.png(number), "image/png")) for number in range(2)]
        batch = self.client.post("/v1/image-batches", files=files).json()["digest"]
        model = digits.reference(self.weights).model_dump(mode="json")
        model["weights"]["signature"] = {"uri": self.signature.as_uri()}
        return {"model": model, "images": {"kind": "batch", "digest": batch}, "plan": PLAN}

    def submit(self, body: dict[str, Any]) -> str:
        answer = self.client.post("/v1/audits", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def work(self, audit_id: str) -> dict[str, Any]:
        while True:
            with self.service.database.reading() as connection:
                queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
            if not queued:
                status: dict[str, Any] = self.client.get(f"/v1/audits/{audit_id}").json()
                return status
            for key in queued:
                self.worker.run(key)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_key(tmp_path, "trusted")


@pytest.fixture
def deployment(make_settings: Callable[..., Settings], tmp_path: Path, keys: tuple[Path, Path]) -> Iterator[Deployment]:
    create_signing_key(tmp_path / "evidence.pem")
    weights = digits.write_weights(tmp_path)
    signature = sign(weights, keys[0], tmp_path / "model.sig")
    settings = make_settings(
        factories=("digits:build",),
        file_roots=(tmp_path,),
        model_keys=(keys[1],),
        signing_key=tmp_path / "evidence.pem",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield Deployment(client, weights, signature)


def test_a_verified_signature_is_in_the_report_and_in_the_evidence(
    deployment: Deployment, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    audit_id = deployment.submit(deployment.body())
    assert deployment.work(audit_id)["state"] == "succeeded"
    content = deployment.client.get(f"/v1/audits/{audit_id}/report").content
    report = AuditReport.model_validate_json(content)
    assert report.model is not None
    assert report.model.signature is not None
    assert report.model.signature.key == key_id(keys[1])
    assert key_id(keys[1]) in render_html(report)
    assert key_id(keys[1]) in render_markdown(report)

    evidence = deployment.client.get(f"/v1/audits/{audit_id}/evidence").content
    public = PublicKey.from_pem((tmp_path / "evidence.pem").read_bytes())
    assert verify_evidence(content, evidence, [public]).findings == ()
    statement = json.loads(payload_of(read_envelope(evidence)))
    assert statement["predicate"][EXTENSION]["model_signatures"] == {
        "model": report.model.signature.model_dump(mode="json")
    }


def test_a_wrong_signature_is_refused_at_submit_and_fails_an_audit_later(
    deployment: Deployment, tmp_path: Path
) -> None:
    body = deployment.body()
    foreign, _ = write_key(tmp_path, "foreign")
    trusted = deployment.signature.read_bytes()
    sign(deployment.weights, foreign, deployment.signature)
    untrusted = deployment.client.post("/v1/audits", json=body)
    assert (untrusted.status_code, untrusted.json()["code"]) == (422, "model_signature_untrusted")
    deployment.signature.write_bytes(b"{}")
    invalid = deployment.client.post("/v1/audits", json=body)
    assert (invalid.status_code, invalid.json()["code"]) == (422, "model_signature_invalid")
    assert [one["pointer"] for one in invalid.json()["errors"]] == ["#/model/weights/signature"]

    # as if only the workers had the file
    deployment.signature.unlink()
    audit_id = deployment.submit(body)
    sign(deployment.weights, foreign, deployment.signature)
    status = deployment.work(audit_id)
    assert (status["state"], status["error"]["code"]) == ("failed", "model_signature_untrusted")
    deployment.signature.write_bytes(trusted)
    assert deployment.work(deployment.submit(body))["state"] == "succeeded"
