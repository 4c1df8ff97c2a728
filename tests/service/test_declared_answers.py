"""Every operation of the OpenAPI document, given hostile bodies, answers only with statuses that it declares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.settings import Settings

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not a number": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a number that is too large": b'{"plan": {"preset": "quick", "seed": 1e999}}',
    "a name twice": b'{"a": 1, "a": 2}',
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "half a surrogate": b'{"name": "\\ud800"}',
    "an endless integer": b'{"plan": {"preset": "quick", "seed": ' + b"9" * 5000 + b"}}",
    "a long integer": b'{"plan": {"preset": "quick", "seed": ' + b"9" * 300 + b"}}",
    "no text": b"\xff\xfe{",
    "a mark in front": b"\xef\xbb\xbf{}",
    "two bytes a character": "{}".encode("utf-16"),
    "null": b"null",
    "a boolean": b"false",
    "a text": b'"x"',
    "many names": json.dumps(dict.fromkeys(map(str, range(20_000)), 0)).encode(),
    "many lists": b"[" + b"[]," * 20_000 + b"[]]",
    "half a form": b'--x\r\nContent-Disposition: form-data; name="images"',
    "a form without names": b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n",
}
TYPES = (
    "application/json",
    "application/problem+json",
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    None,
)


def operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    path = path.replace(f"{{{parameter['name']}}}", "x")  # noqa: PLW2901 - filled in
            yield method.upper(), path, operation


def test_hostile_bodies_get_declared_answers(client: TestClient) -> None:
    walked = 0
    for method, path, operation in operations(client):
        if "requestBody" not in operation:
            continue
        walked += 1
        for name, body in BODIES.items():
            for media_type in TYPES:
                headers = {} if media_type is None else {"Content-Type": media_type}
                answer = client.request(method, path, content=body, headers=headers)
                told = (method, path, name, media_type, answer.text[:200])
                assert answer.status_code < 500, told
                assert str(answer.status_code) in operation["responses"], told
                assert answer.headers["content-type"] == "application/problem+json", told
                assert len(answer.content) < 20_000, told
    assert walked == 14


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"x": [{"seed": 1, "seed": 2}]}', "'seed' is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"\xff", "UTF-8"),
        (b'{"a" 1}', "Expecting ':'"),
    ],
)
def test_what_is_no_json_is_said(client: TestClient, body: bytes, says: str) -> None:
    answer = client.post("/v1/audits", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert says in answer.json()["detail"]
    assert answer.json()["errors"][0]["code"] == "json_invalid"


def test_every_operation_declares_what_any_may_answer(client: TestClient) -> None:
    for method, path, operation in operations(client):
        declared = set(operation["responses"])
        assert {"500", "503"} <= declared, path
        assert "Retry-After" in operation["responses"]["503"]["headers"], path
        if "requestBody" in operation:
            assert {"408", "413", "422"} <= declared, (method, path)
            assert ("400" in declared) or "multipart/form-data" not in operation["requestBody"]["content"]


def test_every_body_is_read_with_care() -> None:
    from auditcore_service.gateway.app import create_app  # noqa: PLC0415 - only this test makes one

    app = create_app(Settings(queue="database"))
    declared = {
        (path, method.upper())
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    careful = {
        (route.path, method)
        for middleware in app.user_middleware
        for route in middleware.kwargs.get("routes", ())
        if isinstance(route, CheckedBodies)
        for method in route.methods
    }
    assert declared <= careful


def test_a_path_has_the_methods_of_all_its_routes(client: TestClient) -> None:
    answer = client.options("/v1/audits")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    answer = client.put("/v1/audits")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert client.options("/v1/models:inspect").headers["Allow"] == "POST, OPTIONS"
    assert client.options("/v1/nowhere").status_code == 404


def test_head_is_get_without_its_body(client: TestClient) -> None:
    request = {"model": {"kind": "demo"}, "images": {"kind": "inline", "images": [{"data": "eA=="}]}}
    audit = client.post("/v1/audits", json={**request, "plan": {"preset": "quick"}}).json()["id"]
    # the last one would go on until the audit ends
    for path in ("/livez", "/v1/audits", f"/v1/audits/{audit}", "/docs", f"/v1/audits/{audit}/events"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert client.head(f"/v1/audits/{audit}").headers["Content-Length"] == str(
        len(client.get(f"/v1/audits/{audit}").content)
    )
    assert client.head("/v1/audits/x").status_code == 404
    assert client.head("/v1/models:inspect").status_code == 405
