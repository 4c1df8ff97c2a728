"""Pictures of a finished audit, over HTTP: a real engine, a real blob store, a gateway in this process."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from auditcore.report.page.content_policy import SCRIPT_SOURCE
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.security_headers import HEADERS, REPORT_PAGE_HEADERS
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from worker_in_process import worker_of

SIDE = 32
REQUEST = {
    "model": {
        "kind": "torchvision",
        "name": "mobilenet_v3_small",
        "weights": {"uri": "random:1"},
        "classes": 5,
        "preprocessing": {"resize": SIDE, "crop": SIDE},
    },
    "plan": {
        "explainers": [{"kind": "gradient"}, {"kind": "random"}],
        "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}],
    },
}

Audited = tuple[TestClient, dict[str, Any]]


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")  # so that no upload is, byte for byte, a picture
    return buffer.getvalue()


def run_audit(client: TestClient, *seeds: int) -> dict[str, Any]:
    """Submit, play the worker, and fetch the report."""
    images = [{"data": base64.b64encode(photo(seed)).decode()} for seed in seeds]
    body = REQUEST | {"images": {"kind": "inline", "images": images}}
    audit_id = client.post("/v1/audits", json=body).json()["id"]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    executor = worker_of(service)
    for _ in range(2):
        with service.database.reading("default") as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        for key in queued:
            executor.run(key)
    report: dict[str, Any] = client.get(f"/v1/audits/{audit_id}/report").json()
    return report


@pytest.fixture
def make_client(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., TestClient]]:
    opened: list[TestClient] = []

    def make(**overrides: object) -> TestClient:
        client = TestClient(create_app(make_settings(**overrides)), raise_server_exceptions=False)
        opened.append(client)
        return client.__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def audited(make_client: Callable[..., TestClient]) -> Audited:
    client = make_client()
    return client, run_audit(client, 0, 1)


def path(report: dict[str, Any], digest: str) -> str:
    return f"/v1/audits/{report['audit_id']}/artifacts/{digest}"


def test_every_artifact_of_the_report_can_be_fetched(audited: Audited) -> None:
    client, report = audited
    expected = [(index, of) for index in (0, 1) for of in ([], ["gradient", "random"])]
    assert [(one["image"], one.get("explainers", [])) for one in report["artifacts"]] == expected
    assert report["images"]["pictured"] == 2
    for one in report["artifacts"]:
        answer = client.get(path(report, one["digest"]))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == one["media_type"] == "image/webp"
        assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == one["digest"]
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (SIDE, SIDE * max(1, len(one.get("explainers", []))))


def test_a_picture_never_changes_and_is_not_sent_twice(audited: Audited) -> None:
    client, report = audited
    digest = report["artifacts"][1]["digest"]
    answer = client.get(path(report, digest))
    etag = answer.headers["etag"]
    assert etag == f'"{digest.removeprefix("sha256:")}"'
    assert "immutable" in answer.headers["cache-control"]
    assert "private" in answer.headers["cache-control"]
    again = client.get(path(report, digest), headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = client.get(path(report, digest), headers={"If-None-Match": '"something else"'})
    assert other.status_code == 200


def test_nothing_but_the_audits_own_pictures_is_handed_out(audited: Audited) -> None:
    client, report = audited
    stored: Service = client.app.state.service  # type: ignore[attr-defined]
    other = run_audit(client, 2)
    foreign = {
        "the image as it was sent": report["images"]["items"][0]["digest"],
        "a blob of another audit": stored.blobs.put(b"secret"),
        "a picture of another audit": other["artifacts"][1]["digest"],
        "nothing": "sha256:" + "0" * 64,
        "no digest": "..%2F..%2Fauditcore.db",
        "a bare digest": report["artifacts"][0]["digest"].removeprefix("sha256:"),
    }
    for what, digest in foreign.items():
        for headers in ({}, {"If-None-Match": "*"}):
            answer = client.get(path(report, digest), headers=headers)
            assert answer.status_code == 404, what
            assert answer.headers["content-type"] == "application/problem+json", what
            assert answer.json()["code"] == "not_found", what
    assert client.get(path(other, other["artifacts"][1]["digest"])).status_code == 200


def test_an_audit_without_a_report_has_no_pictures(client: TestClient) -> None:
    missing = client.get(f"/v1/audits/none/artifacts/sha256:{'0' * 64}")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    images = [{"data": base64.b64encode(photo(0)).decode()}]
    body = REQUEST | {"images": {"kind": "inline", "images": images}}
    audit_id = client.post("/v1/audits", json=body).json()["id"]
    early = client.get(f"/v1/audits/{audit_id}/artifacts/sha256:{'0' * 64}")
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")


def test_the_page_contains_the_pictures(audited: Audited) -> None:
    client, report = audited
    answer = client.get(f"/v1/audits/{report['audit_id']}/report", headers={"Accept": "text/html"})
    for one in report["artifacts"]:
        picture = client.get(path(report, one["digest"])).content
        assert answer.text.count(f"data:image/webp;base64,{base64.b64encode(picture).decode()}") == 1


def test_only_the_page_has_the_header_that_allows_its_script(audited: Audited) -> None:
    client, report = audited
    url, page = f"/v1/audits/{report['audit_id']}/report", {"Accept": "text/html"}
    answer = client.get(url, headers=page)
    policy = answer.headers["Content-Security-Policy"]
    assert policy == REPORT_PAGE_HEADERS["Content-Security-Policy"]
    parts = policy.split("; ")
    assert f"script-src {SCRIPT_SOURCE}" in parts
    assert "sandbox allow-scripts allow-popups allow-modals" in parts
    assert "allow-same-origin" not in policy
    # the fields of a 304 replace those that a browser has kept
    again = client.get(url, headers={**page, "If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.headers["Content-Security-Policy"]) == (304, policy)
    for other in ("application/json", "text/markdown", "application/junit+xml"):
        found = client.get(url, headers={"Accept": other})
        assert found.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"], other


def test_a_missing_picture_is_a_problem_but_does_not_break_the_page(audited: Audited) -> None:
    client, report = audited
    digest = report["artifacts"][0]["digest"]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    (file,) = service.settings.data_dir.rglob(digest.removeprefix("sha256:"))
    file.unlink()
    answer = client.get(path(report, digest))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "no longer stored" in answer.json()["detail"]
    page = client.get(f"/v1/audits/{report['audit_id']}/report", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert page.text.count("data:image/webp") == len(report["artifacts"]) - 1


def test_the_same_audit_has_the_same_pictures(audited: Audited) -> None:
    client, report = audited
    assert run_audit(client, 0, 1)["artifacts"] == report["artifacts"]


@pytest.mark.parametrize("limit", [0, 1])
def test_the_operator_limits_how_many_images_get_pictures(make_client: Callable[..., TestClient], limit: int) -> None:
    report = run_audit(make_client(picture_images=limit), 0, 1)
    assert {one["image"] for one in report["artifacts"]} == set(range(limit))
    assert report["images"]["pictured"] == limit
    assert report["images"]["used"] == 2
