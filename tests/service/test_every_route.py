"""Every operation of the OpenAPI document, called without credentials, with each scope, and by another tenant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.key_files import create_signing_key
from auditcore_service.principals import SCOPES, Principal
from auditcore_service.settings import Settings
from two_tenants import OURS, THEIRS, things_of

PUBLIC = {"getLiveness", "getReadiness", "listKeys"}
"""Operations that anybody may call: probes, and the public keys with which others verify evidence."""

NEEDED: dict[str, set[str]] = {
    "audits:read": {
        "compareReplay",
        "followAudit",
        "getArtifact",
        "getAudit",
        "getEvidence",
        "getImageBatch",
        "getPolicy",
        "followExperiment",
        "followTraining",
        "getExperiment",
        "getExperimentFile",
        "getExperimentReport",
        "listExperimentFiles",
        "listExperiments",
        "getReport",
        "getTrainedWeights",
        "getTrainingEvidence",
        "getTraining",
        "getTrainingReport",
        "getUsage",
        "listAudits",
        "listPolicies",
        "listSignOffs",
        "listTrainings",
    },
    "audits:write": {
        "cancelAudit",
        "cancelExperiment",
        "cancelTraining",
        "estimateExperiment",
        "estimateAudit",
        "inspectModel",
        "replayAudit",
        "submitAudit",
        "estimateTraining",
        "submitExperiment",
        "submitTraining",
        "uploadImageBatch",
        "uploadMaps",
    },
    "audits:sign": {"signOff"},
    "audits:delete": {"deleteAudit", "deleteExperiment", "deleteImageBatch", "deleteMaps", "deleteTraining"},
    "policies:write": {"storePolicy"},
    "webhooks:write": {
        "createWebhook",
        "deleteWebhook",
        "getWebhook",
        "listWebhookDeliveries",
        "listWebhooks",
        "pingWebhook",
        "rotateWebhookSecret",
    },
    "log:read": {"getLogHead", "readLog"},
    "metrics:read": {"getMetrics"},
    "keys:admin": {"createApiKey", "getApiKey", "listApiKeys", "revokeApiKey", "rotateApiKey"},
}
"""Scope -> operations that need it. The catalogue needs credentials, but no scope."""

BODIES: dict[str, dict[str, Any]] = {
    "signOff": {"decision": "approve"},
}
"""Bodies of operations about one object; the empty object for all others."""


class Operation(NamedTuple):
    """An operation of the document.

    Attributes:
        scopes: What it needs; None if it needs no credentials.
        names: Parameters in its path.
    """

    method: str
    path: str
    name: str
    scopes: tuple[str, ...] | None
    names: tuple[str, ...]
    has_body: bool

    def call(self, client: TestClient, token: str | None, **values: str) -> Response:
        """Call it with these parameters of the path."""
        body = {"json": BODIES.get(self.name, {})} if self.has_body else {}
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return client.request(self.method, self.path.format(**values), headers=headers, **body)


class Walk(NamedTuple):
    """A gateway that asks for credentials, with everything that a tenant can have."""

    client: TestClient
    service: Service
    operations: tuple[Operation, ...]
    values: dict[str, dict[str, str]]
    """Operation -> parameters of its path that name something of `OURS`."""

    def token(self, principal: Principal) -> str:
        """A key with the scopes of a principal."""
        name = f"k{len(self.service.api_keys.page(principal, cursor=None, limit=100)[0])}"
        return self.service.api_keys.create(principal, name=name, scopes=principal.scopes, expires_at=None)[1]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    create_signing_key(folder / "key.pem")
    settings = Settings(
        data_dir=folder,
        queue="database",
        authentication="required",
        failed_authentications_per_minute=100_000,
        signing_key=folder / "key.pem",
        sweep_s=3600.0,
        inspection_wait_s=0.05,
        micro_batch=8,
        device="cpu",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        document = client.get("/openapi.json").json()
        yield Walk(client, service, tuple(operations(document)), things_of(service, OURS))


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            security = operation.get("security")
            yield Operation(
                method.upper(),
                path,
                operation["operationId"],
                None if security is None else tuple(next(iter(security[0].values()))),
                tuple(one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"),
                "requestBody" in operation,
            )


def test_the_walk_knows_every_operation(walk: Walk) -> None:
    assert {one.name for one in walk.operations if one.names} == set(walk.values)
    assert {one.name for one in walk.operations if one.scopes is None} == PUBLIC
    scopes = {one.name: one.scopes for one in walk.operations if one.scopes}
    assert scopes == {name: (scope,) for scope, names in NEEDED.items() for name in names}
    assert set(NEEDED) == set(SCOPES)


def test_without_credentials_only_public_operations_answer(walk: Walk) -> None:
    for operation in walk.operations:
        for token in (None, "ac_wrong", ""):
            answer = operation.call(walk.client, token, **walk.values.get(operation.name, {}))
            if operation.name in PUBLIC:
                assert answer.status_code == 200, operation
            else:
                assert answer.status_code == 401, operation
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), operation


def test_each_scope_opens_only_its_operations(walk: Walk) -> None:
    unknown = {name: "00000000-0000-4000-8000-000000000000" for values in walk.values.values() for name in values}
    tokens = {scope: walk.token(Principal("ours", None, frozenset({scope}))) for scope in SCOPES}
    for operation in walk.operations:
        if operation.scopes is None:
            continue
        for scope, token in tokens.items():
            answer = operation.call(walk.client, token, **unknown)
            allowed = not operation.scopes or scope in operation.scopes
            assert (answer.status_code == 403) is not allowed, (operation, scope, answer.text)
            assert answer.status_code != 401, (operation, scope)
            if not allowed:
                assert operation.scopes[0] in answer.json()["detail"]


def test_nothing_of_a_tenant_is_found_by_another(walk: Walk) -> None:
    stranger = walk.token(THEIRS)
    mine = walk.token(OURS)
    secrets = {value for values in walk.values.values() for value in values.values()}
    for operation in walk.operations:
        values = walk.values.get(operation.name, {})
        if values:
            answer = operation.call(walk.client, stranger, **values)
            assert answer.status_code == 404, (operation, answer.text)
            unknown = {name: value[:-2] + ("aa" if value[-2:] != "aa" else "bb") for name, value in values.items()}
            absent = operation.call(walk.client, stranger, **unknown)
            # what exists and what does not look the same, but for the name that was asked for
            assert _without(answer.json(), values) == _without(absent.json(), unknown), operation
        elif operation.method == "GET":
            answer = operation.call(walk.client, stranger)
            assert not [secret for secret in secrets if secret in answer.text], operation
    for name, values in walk.values.items():
        operation = next(one for one in walk.operations if one.name == name)
        if operation.method == "GET" and name not in {"compareReplay", "followAudit", "followTraining"}:
            assert operation.call(walk.client, mine, **values).status_code == 200, name


def _without(document: Any, values: dict[str, str]) -> str:
    text = str(document)
    for value in values.values():
        text = text.replace(value, "_")
    return text
