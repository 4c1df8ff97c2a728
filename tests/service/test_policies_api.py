"""`/v1/policies`, and requests that name a policy."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import shipped_policies
from auditcore_service.gateway.routes.policies import POLICY_EXAMPLE
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS

both_databases = pytest.mark.usefixtures("database_url")

CONDITION = {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.05}
SHIPPED = [one.label for one in shipped_policies()]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


def body(**changes: Any) -> dict[str, Any]:
    images = {"kind": "inline", "images": [{"data": PIXEL}]}
    return {"model": {"kind": "demo"}, "images": images, "plan": {"preset": "quick"}, **changes}


def document(version: str = "1", **changes: Any) -> dict[str, Any]:
    return {"name": "scans", "version": version, "conditions": [CONDITION], **changes}


def stored_request(client: TestClient, audit_id: str) -> AuditRequest:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return AuditRequest.model_validate_json(service.audits.get(ANONYMOUS, audit_id).request)


@both_databases
def test_a_policy_is_stored_once_and_answered_byte_for_byte(client: TestClient) -> None:
    first, again = (client.post("/v1/policies", json=document()) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    summary = first.json()["policy"]
    assert first.headers["location"] == again.headers["location"] == summary["links"]["self"]
    assert summary["digest"] == PolicyDocument.model_validate(document()).digest
    assert (summary["name"], summary["version"], summary["conditions"], summary["shipped"]) == ("scans", "1", 1, False)
    by_digest, by_name = (client.get(summary["links"][link]) for link in ("self", "named"))
    assert by_digest.content == by_name.content
    assert f"sha256:{hashlib.sha256(by_digest.content).hexdigest()}" == summary["digest"]
    assert by_digest.headers["etag"] == f'"{summary["digest"].removeprefix("sha256:")}"'
    assert PolicyDocument.model_validate_json(by_digest.content) == PolicyDocument.model_validate(document())


@both_databases
def test_a_version_never_changes(client: TestClient) -> None:
    client.post("/v1/policies", json=document())
    other = client.post("/v1/policies", json=document(description="stricter"))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    problem = other.json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("policy_exists", "#/version")
    assert "scans@1 is stored with other content" in problem["detail"]
    assert client.post("/v1/policies", json=document("2", description="stricter")).status_code == 201
    assert "stricter" not in client.get("/v1/policies/scans@1").text


def test_the_answer_has_advice(client: TestClient) -> None:
    stability = CONDITION | {"check": "sweep", "metric": "s_pearson", "variant": "rotate"}
    found = client.post("/v1/policies", json=document(conditions=[stability])).json()["findings"]
    assert [(one["code"], one["field"]) for one in found] == [("no_evidence", "conditions")]
    assert client.post("/v1/policies", json=document("2")).json()["findings"] == []


@pytest.mark.parametrize(
    ("sent", "pointer", "fix"),
    [
        (document("1 0"), "#/version", "pattern"),
        (document(name="Scans"), "#/name", "pattern"),
        (document(conditions=[]), "#/conditions", "at least 1"),
        (document(conditions=[CONDITION | {"at_most": 1}]), "#/conditions/0", "exactly one"),
        (document(conditions=[CONDITION | {"treshold": 1}]), "#/conditions/0/treshold", "remove it"),
        ([CONDITION], "#", "JSON object"),
    ],
)
def test_a_mistake_is_found_where_it_is(client: TestClient, sent: object, pointer: str, fix: str) -> None:
    answer = client.post("/v1/policies", json=sent)
    assert answer.status_code == 422
    (found,) = answer.json()["errors"]
    assert found["pointer"] == pointer
    assert fix in found["detail"]


def test_the_etag_answers_304(client: TestClient) -> None:
    for path in ("/v1/policies/quick-look@1.0.0", client.post("/v1/policies", json=document()).headers["location"]):
        etag = client.get(path).headers["etag"]
        known = client.get(path, headers={"If-None-Match": etag})
        assert (known.status_code, known.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "reference", ["scans@9", "scans", "sha256:abc", f"sha256:{0:064}", "%00@1", "sc%F0%9F%98%80@1"]
)
@both_databases
def test_what_is_not_stored_is_not_found(client: TestClient, reference: str) -> None:
    answer = client.get(f"/v1/policies/{reference}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@both_databases
def test_pages_list_every_policy_once_newest_first_and_those_of_auditcore_last(client: TestClient) -> None:
    for version in ("1", "2", "3"):
        client.post("/v1/policies", json=document(version))
    found, path = [], "/v1/policies?limit=2"
    while path:
        answer = client.get(path)
        found += [f"{one['name']}@{one['version']}" for one in answer.json()["items"]]
        following = answer.json()["next_cursor"]
        assert len(found) <= 3 + len(SHIPPED)
        assert ("link" in answer.headers) == (following is not None)
        path = following and f"/v1/policies?limit=2&cursor={following}"
    assert found[:3] == ["scans@3", "scans@2", "scans@1"]
    assert sorted(found[3:]) == sorted(SHIPPED)
    assert client.get("/v1/policies?cursor=mine").json()["code"] == "invalid_cursor"


def test_shipped_policies_need_not_be_stored_and_keep_their_names(client: TestClient) -> None:
    for shipped in shipped_policies():
        sent = shipped.model_dump(mode="json")
        answer = client.post("/v1/policies", json=sent)
        assert (answer.status_code, answer.json()["policy"]["shipped"]) == (200, True)
        assert client.get(f"/v1/policies/{shipped.label}").headers["etag"] == f'"{shipped.digest[7:]}"'
        taken = client.post("/v1/policies", json=sent | {"version": "99"})
        assert taken.status_code == 409
        assert taken.json()["errors"][0]["pointer"] == "#/name"


@both_databases
def test_a_request_pins_the_policy_that_it_names(client: TestClient) -> None:
    expected = PolicyDocument.model_validate(document())
    client.post("/v1/policies", json=document())
    for policy in ("scans@1", {"digest": expected.digest}, document()):
        answer = client.post("/v1/audits", json=body(policy=policy))
        assert answer.status_code == 202, answer.text
        assert stored_request(client, answer.json()["id"]).policy == expected
    answer = client.post("/v1/audits", json=body(policy="quick-look@1.0.0"))
    assert stored_request(client, answer.json()["id"]).policy in shipped_policies()


@pytest.mark.parametrize(
    ("policy", "pointer", "words"),
    [
        ("scans@3", "#/policy", "use one of: scans@1, scans@2"),
        ("scams@1", "#/policy", f"use one of: {', '.join(SHIPPED)}"),
        ({"digest": f"sha256:{0:064}"}, "#/policy/digest", "POST /v1/policies"),
        ("scans", "#/policy", "pattern"),
        (document(conditions=[CONDITION | {"explainer": "rise"}]), "#/policy/conditions/0/explainer", "policy scans@1"),
        (document(conditions=[]), "#/policy/conditions", "at least 1"),
    ],
)
def test_a_request_with_an_unknown_or_unfit_policy_is_refused(
    client: TestClient, policy: object, pointer: str, words: str
) -> None:
    for version in ("1", "2"):
        client.post("/v1/policies", json=document(version))
    for path in ("/v1/audits", "/v1/estimates"):
        answer = client.post(path, json=body(policy=policy))
        assert answer.status_code == 422, path
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert words in answer.json()["detail"]


def test_the_documented_policy_is_accepted(client: TestClient) -> None:
    answer = client.post("/v1/policies", json=POLICY_EXAMPLE)
    assert answer.status_code == 201
    assert answer.json()["findings"] == []
    assert json.loads(client.get("/v1/policies/scans@1.0.0").content)["conditions"][0]["rationale"]
