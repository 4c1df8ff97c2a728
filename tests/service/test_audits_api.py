from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import redis
from fastapi.testclient import TestClient
from PIL import Image

from auditcore.augmentations.registry import AUGMENTATIONS
from auditcore.checks.registry import CHECKS
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.request import AuditRequest
from auditcore.explainers.registry import EXPLAINERS
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.routes.audit_examples import SUBMIT_EXAMPLES
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.store.idempotency import reserve_key
from auditcore_service.store.records import Failure, ShardKey
from auditcore_service.store.shards import claim_shard, complete_shard, fail_audit
from auditcore_service.use_cases.refusals import NotAcceptable
from auditcore_service.use_cases.representations import negotiate
from queues import ONLY_REDIS

both_databases = pytest.mark.usefixtures("database_url")

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def png(color: int = 120) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (color, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def inline(*colors: int) -> dict[str, Any]:
    images = [{"data": base64.b64encode(png(color)).decode()} for color in colors or (1,)]
    return {"kind": "inline", "images": images}


def body(**changes: Any) -> dict[str, Any]:
    return {"model": {"kind": "demo"}, "images": inline(), "plan": {"preset": "quick"}, **changes}


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def submit(client: TestClient, **changes: Any) -> str:
    answer = client.post("/v1/audits", json=body(**changes))
    assert answer.status_code == 202, answer.text
    audit_id: str = answer.json()["id"]
    return audit_id


def finish(client: TestClient, audit_id: str, report: bytes = b"{}") -> None:
    """Play the worker: complete every shard."""
    service = service_of(client)
    digest = service.blobs.put(report)
    for wave in range(2):
        key = ShardKey(audit_id, wave, 0)
        with service.database.writing("default") as connection:
            assert claim_shard(connection, key, now=1.0, lease_s=9.0)
            complete_shard(connection, key, attempt=1, result_digest=digest, now=2.0, verdict="pass")


@both_databases
def test_submit_answers_202_with_location_and_retry_after(client: TestClient) -> None:
    answer = client.post("/v1/audits", json=body())
    status = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == status["links"]["self"] == f"/v1/audits/{status['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert status["state"] == "queued"
    assert status["progress"] == {"done": 0, "total": 2, "failed": 0}
    assert status["verdict"] is None
    assert status["error"] is None
    assert client.get(status["links"]["self"]).json()["id"] == status["id"]


def test_the_documented_json_is_accepted(client: TestClient) -> None:
    upload = client.post("/v1/image-batches", files=[("images", ("a.png", png(), "image/png"))]).json()
    request = {
        **SUBMIT_EXAMPLES["explicit"]["value"],
        "images": {"kind": "batch", "digest": upload["digest"]},
    }
    assert client.post("/v1/audits", json=request).status_code == 202


def test_submitting_sends_a_ticket_and_no_pixels(client: TestClient, redis_url: str) -> None:
    submit(client)
    with redis.Redis.from_url(redis_url) as queue:
        message = queue.brpop("gpu", timeout=10)[1]  # announced behind the answer
    payload = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert payload[0] == ["gpu"]
    assert payload[1] == {}


@pytest.mark.parametrize("queue_kind", ONLY_REDIS)
def test_a_gateway_without_queue_still_accepts(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(redis_url="unix:///nowhere.sock")
    with TestClient(create_app(settings)) as client:
        assert client.post("/v1/audits", json=body()).status_code == 202
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.headers["content-type"] == "application/problem+json"
        assert client.get("/livez").json() == {"status": "ok", "checks": {}}


@pytest.mark.parametrize(
    ("changes", "pointer", "fix"),
    [
        ({"model": {"kind": "demmo"}}, "#/model", "demo"),
        ({"model": None}, "#", "exactly one"),
        ({"model": 3}, "#/model", "valid"),
        (
            {"images": {"kind": "inline", "images": [{"data": "aGk=", "label": [1, -1]}]}},
            "#/images/images/0/label/1",
            "greater than or equal to 0",
        ),
        (
            {"images": {"kind": "inline", "images": [{"data": "aGk=", "label": []}]}},
            "#/images/images/0/label",
            "at least 1",
        ),
        (
            {"images": {"kind": "uris", "uris": [{"uri": "a", "boxes": [{"x0": 3, "y0": 0, "x1": 1, "y1": 1}]}]}},
            "#/images/uris/0/boxes/0",
            "x0 < x1",
        ),
        ({"plan": {"preset": "qick"}}, "#/plan/preset", "quick"),
        ({"plan": {"explainers": [{"kind": "gradient"}]}}, "#/plan/checks", "add it"),
        (
            {"plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "gird": 4}]}},
            "#/plan/checks/0/gird",
            "remove it",
        ),
        (
            {"plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 1}]}},
            "#/plan/checks/0/grid",
            "greater than or equal to 2",
        ),
        (
            {"model": {"kind": "factory", "target": "os:system", "weights": {"uri": "random:0"}, "preprocessing": {}}},
            "#/model/target",
            "AUDIT_FACTORIES",
        ),
        (
            {
                "plan": {
                    "explainers": [{"kind": "gradient"}, {"kind": "callable", "target": "os:system"}],
                    "checks": [{"kind": "deletion"}],
                }
            },
            "#/plan/explainers/1/target",
            "AUDIT_EXPLAINERS",
        ),
        (
            {
                "plan": {
                    "explainers": [
                        {"kind": "served_explainer", "protocol": "torchserve", "url": "http://10.0.0.1", "model": "m"}
                    ],
                    "checks": [{"kind": "deletion"}],
                }
            },
            "#/plan/explainers/0/url",
            "AUDIT_SERVER_PREFIXES",
        ),
        (
            {"model": {"kind": "torchvision", "name": "resnet18", "weights": {"uri": "file:///etc/passwd"}}},
            "#/model/weights/uri",
            "AUDIT_FILE_ROOTS",
        ),
        (
            {"images": {"kind": "uris", "uris": [{"uri": "http://169.254.169.254/latest"}]}},
            "#/images/uris/0/uri",
            "https:",
        ),
        ({"images": {"kind": "batch", "digest": "sha256:" + "0" * 64}}, "#/images/digest", "image-batches"),
        ({"images": {"kind": "inline", "images": [{"data": ""}]}}, "#/images/images/0/data", "empty"),
        ({"images": {"kind": "inline", "images": []}}, "#/images/images", "at least 1"),
        (
            {"policy": [{"check": "deletion", "explainer": "lime", "metric": "srg", "at_least": 0}]},
            "#/policy/0/explainer",
            "gradient",
        ),
        ({"plan": {"preset": "quick", "seed": 2**60}}, "#/plan/seed", "less than"),
    ],
)
def test_bad_requests_name_the_field_and_the_fix(
    client: TestClient, changes: dict[str, Any], pointer: str, fix: str
) -> None:
    answer = client.post("/v1/audits", json=body(**changes))
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == 422
    assert problem["type"] == f"urn:auditcore:problem:{problem['code']}"
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert any(fix in error["detail"] for error in problem["errors"]), problem
    assert client.get("/v1/audits").json()["items"] == []


def plan(**changes: Any) -> dict[str, Any]:
    return {"plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "edda"}], **changes}}


def sweep(**augmentation: Any) -> dict[str, Any]:
    return plan(checks=[{"kind": "sweep", "augmentations": [augmentation]}])


def labeled(**changes: Any) -> dict[str, Any]:
    return {"images": {"kind": "inline", "images": [{"data": "aGk=", **changes}]}}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        (plan(explainers=[{"kind": "gradient"}] * 2), "#/plan"),
        (plan(explainers=[{"kind": "noise_tunnel", "method": {"kind": "random"}}]), "#/plan/explainers/0/method"),
        (plan(top_n=3), "#/plan"),
        (plan(checks=[{"kind": "road", "shares": []}]), "#/plan/checks/0/shares"),
        (plan(checks=[{"kind": "ssim_sweep", "window": 4}]), "#/plan/checks/0/window"),
        (plan(checks=[{"kind": "sweep", "top_k": 10**40}]), "#/plan/checks/0/top_k"),
        (sweep(kind="rotate", interval=[5, -5]), "#/plan/checks/0/augmentations/0"),
        (sweep(kind="gmic", filter="; rm"), "#/plan/checks/0/augmentations/0/filter"),
        (
            sweep(kind="composition", first={"kind": "scale", "interval": [-3, 3]}, second={"kind": "hue"}),
            "#/plan/checks/0/augmentations/0/first",
        ),
        (labeled(boxes=[{"x0": 3, "y0": 0, "x1": 1, "y1": 1}]), "#/images/images/0/boxes/0"),
        (labeled(boxes=[{"x0": "3", "y0": 0, "x1": 9, "y1": 1}]), "#/images/images/0/boxes/0/x0"),
        (labeled(label=[1, 1]), "#/images/images/0/label"),
        (labeled(label=2**53), "#/images/images/0/label"),
    ],
)
def test_one_mistake_is_reported_once_at_an_existing_place(
    client: TestClient, changes: dict[str, Any], pointer: str
) -> None:
    problem = client.post("/v1/audits", json=body(**changes)).json()
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert "Value error" not in problem["detail"]
    assert "uple" not in problem["detail"]


@pytest.mark.parametrize("label", [True, "3", 3.5, -1, [[1]]])
def test_a_label_that_is_not_a_class_index_is_refused(client: TestClient, label: object) -> None:
    answer = client.post("/v1/audits", json=body(**labeled(label=label)))
    assert answer.status_code == 422
    assert all(error["pointer"].startswith("#/images/images/0/label") for error in answer.json()["errors"])


def test_an_interval_of_one_number_lacks_the_second(client: TestClient) -> None:
    problem = client.post("/v1/audits", json=body(**sweep(kind="rotate", interval=[5]))).json()
    assert "#/plan/checks/0/augmentations/0/interval/1" in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b'{"model": {}}', "text/plain"),
        (b"[]", "application/json"),
    ],
)
def test_bodies_that_are_not_a_json_object(client: TestClient, content: bytes, content_type: str) -> None:
    answer = client.post("/v1/audits", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(make_settings: Callable[..., Settings]) -> None:
    with TestClient(create_app(make_settings(request_bytes=2000))) as client:
        declared = client.post("/v1/audits", content=b"x" * 3000, headers={"Content-Type": "application/json"})
        chunked = client.post(
            "/v1/audits", content=(b"x" * 500 for _ in range(6)), headers={"Content-Type": "application/json"}
        )
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert answer.json()["code"] == "content_too_large"
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/audits/none", 404, "not_found"),
        ("GET", "/v1/audits/none/report", 404, "not_found"),
        ("GET", "/v1/audits/none/events", 404, "not_found"),
        ("POST", "/v1/audits/none/cancel", 404, "not_found"),
        ("GET", "/v1/image-batches/sha256:12", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/v1/audits", 405, "method_not_allowed"),
        ("GET", "/v1/audits?limit=0", 422, "invalid_request"),
        ("GET", "/v1/audits?state=lost", 422, "invalid_request"),
        ("GET", "/v1/audits?cursor=WzFd", 422, "invalid_cursor"),
        ("GET", "/v1/audits?cursor=%00", 422, "invalid_cursor"),
    ],
)
def test_every_refusal_is_a_problem(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@both_databases
def test_idempotency_key_gives_the_same_audit_once(client: TestClient) -> None:
    first = client.post("/v1/audits", json=body(), headers={"Idempotency-Key": f'"{KEY}"'})
    second = client.post("/v1/audits", json=body(), headers={"Idempotency-Key": KEY})
    assert first.json()["id"] == second.json()["id"]
    assert second.status_code == 202
    assert len(client.get("/v1/audits").json()["items"]) == 1


@both_databases
def test_idempotency_key_with_another_body_is_refused(client: TestClient) -> None:
    client.post("/v1/audits", json=body(), headers={"Idempotency-Key": KEY})
    answer = client.post("/v1/audits", json=body(images=inline(2)), headers={"Idempotency-Key": KEY})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_idempotency_key_in_flight_is_a_conflict(client: TestClient) -> None:
    service = service_of(client)
    fingerprint = digest_of(AuditRequest.model_validate(body()))
    with service.database.writing("default") as connection:
        reserve_key(connection, KEY, fingerprint, now=time.time())
    answer = client.post("/v1/audits", json=body(), headers={"Idempotency-Key": KEY})
    assert (answer.status_code, answer.json()["code"]) == (409, "request_in_flight")
    assert answer.headers["retry-after"] == "1"


@both_databases
def test_a_refused_request_frees_its_idempotency_key(client: TestClient) -> None:
    missing = {"kind": "batch", "digest": "sha256:" + "0" * 64}
    headers = {"Idempotency-Key": KEY}
    assert client.post("/v1/audits", json=body(images=missing), headers=headers).status_code == 422
    assert client.post("/v1/audits", json=body(), headers=headers).status_code == 202


def test_an_empty_idempotency_key_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/audits", json=body(), headers={"Idempotency-Key": '""'})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


@both_databases
def test_pages_follow_each_other_without_gap_or_overlap(client: TestClient) -> None:
    ids = [submit(client, images=inline(number)) for number in range(5)]
    seen: list[str] = []
    url: str | None = "/v1/audits?limit=2"
    pages = 0
    while url is not None:
        answer = client.get(url)
        seen += [item["id"] for item in answer.json()["items"]]
        url = answer.links["next"]["url"] if "next" in answer.links else None
        assert (url is None) == (answer.json()["next_cursor"] is None)
        pages += 1
    assert pages == 3
    assert seen == ids[::-1]


def test_list_by_state(client: TestClient) -> None:
    first, second = submit(client), submit(client)
    client.post(f"/v1/audits/{first}/cancel")
    assert [item["id"] for item in client.get("/v1/audits?state=cancelled").json()["items"]] == [first]
    assert [item["id"] for item in client.get("/v1/audits?state=queued").json()["items"]] == [second]


@both_databases
def test_cancel_is_idempotent(client: TestClient) -> None:
    audit_id = submit(client)
    for _ in range(2):
        answer = client.post(f"/v1/audits/{audit_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    refusal = client.get(f"/v1/audits/{audit_id}/report").json()
    assert refusal["code"] == "report_not_ready"
    assert refusal["detail"].endswith("has no report; submit it again")


@both_databases
def test_report_has_a_strong_etag_and_never_changes(client: TestClient) -> None:
    audit_id = submit(client)
    url = f"/v1/audits/{audit_id}/report"
    assert client.get(url).json()["code"] == "report_not_ready"
    finish(client, audit_id, b'{"b":1,"a":2}')
    answer = client.get(url)
    assert answer.content == b'{"b":1,"a":2}'
    assert answer.headers["content-type"] == "application/json"
    assert "immutable" in answer.headers["cache-control"]
    etag = answer.headers["etag"]
    assert etag.startswith('"')
    for known in (etag, f'"x", W/{etag}', "*"):
        unchanged = client.get(url, headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == etag
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


@both_databases
def test_a_failed_audit_is_a_page_and_a_test_case_in_error(client: TestClient) -> None:
    audit_id = submit(client)
    url = f"/v1/audits/{audit_id}/report"
    forms = {form: {"Accept": form} for form in ("text/html", "application/junit+xml", "text/markdown")}
    assert {client.get(url, headers=form).json()["code"] for form in forms.values()} == {"report_not_ready"}
    key = ShardKey(audit_id, 0, 0)
    failure = Failure("no_usable_images", "1 < 2 \x0c & no image is whole; send others", "images")
    with service_of(client).database.writing("default") as connection:
        assert claim_shard(connection, key, now=time.time(), lease_s=9.0)
        fail_audit(connection, key, attempt=1, failure=failure, now=time.time() + 7.5)
    as_json = client.get(url)
    assert (as_json.status_code, as_json.json()["code"]) == (404, "report_not_ready")
    page = client.get(url, headers=forms["text/html"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "This audit failed" in page.text
    assert "1 &lt; 2" in page.text
    for shown in ("no_usable_images", "no image is whole; send others", "<code>images</code>", audit_id):
        assert shown in page.text
    answer = client.get(url, headers=forms["application/junit+xml"])
    assert answer.status_code == 200
    suites = ET.fromstring(answer.content)  # noqa: S314 - our own document
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("1", "0", "1")
    assert float(suites.get("time", "0")) == pytest.approx(7.5, abs=1.0)
    (error,) = suites.iter("error")
    assert error.get("type") == "no_usable_images"
    assert error.text == "images: 1 < 2 \N{REPLACEMENT CHARACTER} & no image is whole; send others"
    summary = client.get(url, headers=forms["text/markdown"])
    assert (summary.status_code, summary.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    assert "`images`: 1 \\< 2   \\& no image is whole; send others" in summary.text


def test_a_cancelled_audit_says_so_in_every_form(client: TestClient) -> None:
    audit_id = submit(client)
    client.post(f"/v1/audits/{audit_id}/cancel")
    url = f"/v1/audits/{audit_id}/report"
    assert "This audit was cancelled" in client.get(url, headers={"Accept": "text/html"}).text
    junit = client.get(url, headers={"Accept": "application/junit+xml"}).text
    assert '<error type="cancelled" message="the audit was cancelled; submit it again">' in junit
    assert "the audit was cancelled" in client.get(url, headers={"Accept": "text/markdown"}).text


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("*", "application/json"),
        ("", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "text/html"),
        ("TEXT/HTML; Q=0.5", "text/html"),
        ("text/*", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/xml", "application/junit+xml"),
        ("application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json"),
        ("application/yaml, text/html;q=0.5", "application/yaml"),
        ("application/json;q=0.2, application/junit+xml;q=0.7", "application/junit+xml"),
        ("application/json;q=0, */*", "text/html"),
        (", text/html,,", "text/html"),
        ("text/markdown, text/html;q=0.9", "text/markdown"),
    ],
)
def test_the_header_accept_chooses_the_form(accept: str, media_type: str) -> None:
    assert negotiate(accept) == media_type


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "nonsense", "a/b/c", "*/*;q=0"])
def test_a_header_that_allows_no_form_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, text/html, application/junit"):
        negotiate(accept)


def test_a_report_in_an_unknown_form_is_refused(client: TestClient) -> None:
    audit_id = submit(client)
    finish(client, audit_id)
    answer = client.get(f"/v1/audits/{audit_id}/report", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_a_report_of_an_earlier_version_is_still_served(client: TestClient) -> None:
    picture = service_of(client).blobs.put(png())
    listed = {"image": 0, "explainer": None, "media_type": "image/png", "digest": picture}
    stored = json.dumps({"schema_version": "1.0", "results": [], "artifacts": [listed]}).encode()
    audit_id = submit(client)
    finish(client, audit_id, stored)
    url = f"/v1/audits/{audit_id}/report"
    assert client.get(url).content == stored
    assert client.get(f"/v1/audits/{audit_id}/artifacts/{picture}").content == png()
    page = client.get(url, headers={"Accept": "text/html"})
    assert (page.status_code, page.json()["code"]) == (406, "not_acceptable")
    assert "earlier version" in page.json()["detail"]


def test_a_report_of_schema_1_1_comes_in_every_form(client: TestClient) -> None:
    stored = (Path(__file__).parents[1] / "data" / "report-1.1.json").read_bytes()
    audit_id = submit(client)
    finish(client, audit_id, stored)
    url = f"/v1/audits/{audit_id}/report"
    assert client.get(url).content == stored
    page = client.get(url, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Made by schema 1.1; numbers follow the definitions of that time." in page.text
    junit = client.get(url, headers={"Accept": "application/junit+xml"})
    assert junit.status_code == 200
    assert '<property name="schema_version" value="1.1" />' in junit.text
    summary = client.get(url, headers={"Accept": "text/markdown"})
    assert (summary.status_code, summary.headers["vary"]) == (200, "Accept")
    assert summary.text.startswith("## auditcore: ")


@both_databases
def test_a_failed_audit_has_a_reason(client: TestClient) -> None:
    audit_id = submit(client)
    service = service_of(client)
    key = ShardKey(audit_id, 0, 0)
    failure = Failure("digest_mismatch", "send other bytes", "model.weights.sha256")
    with service.database.writing("default") as connection:
        claim_shard(connection, key, now=1.0, lease_s=9.0)
        fail_audit(connection, key, attempt=1, failure=failure, now=2.0)
    status = client.get(f"/v1/audits/{audit_id}").json()
    assert status["state"] == "failed"
    assert status["error"] == {
        "code": "digest_mismatch",
        "message": "send other bytes",
        "field": "model.weights.sha256",
    }
    assert status["progress"]["failed"] == 1


def read_events(client: TestClient, audit_id: str, **headers: str) -> list[dict[str, str]]:
    answer = client.get(f"/v1/audits/{audit_id}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@both_databases
def test_event_stream_contains_everything_and_ends(client: TestClient) -> None:
    audit_id = submit(client)
    finish(client, audit_id)
    events = read_events(client, audit_id)
    assert json.loads(events[0]["data"])["state"] == "queued"
    last = json.loads(events[-1]["data"])
    assert (last["state"], last["verdict"], last["fraction"]) == ("succeeded", "pass", 1.0)
    assert [int(event["id"]) for event in events] == sorted({int(event["id"]) for event in events})


@both_databases
def test_event_stream_resumes_after_the_last_event_seen(client: TestClient) -> None:
    audit_id = submit(client)
    finish(client, audit_id)
    events = read_events(client, audit_id)
    assert read_events(client, audit_id, **{"Last-Event-ID": events[1]["id"]}) == events[2:]
    assert read_events(client, audit_id, **{"Last-Event-ID": events[-1]["id"]}) == []
    assert read_events(client, audit_id, **{"Last-Event-ID": "what"}) == events


def test_catalogue_lists_every_contract(client: TestClient) -> None:
    catalogue = client.get("/v1/catalogue").json()
    for name, table in (("checks", CHECKS), ("explainers", EXPLAINERS), ("augmentations", AUGMENTATIONS)):
        offered = [entry["kind"] for entry in catalogue[name]]
        assert sorted(offered) == sorted(contract.model_fields["kind"].default for contract in table)
    assert set(catalogue["presets"]) == set(PRESETS)
    assert {check: set(metrics) for check, metrics in catalogue["metrics"].items()} == {
        check: set(metrics) for check, metrics in METRICS.items()
    }
    for entry in (*catalogue["explainers"], *catalogue["checks"], *catalogue["augmentations"]):
        assert entry["meaning"]
        assert entry["schema"]["properties"]["kind"]["const"] == entry["kind"]


def test_catalogue_lists_the_kind_of_maps(client: TestClient) -> None:
    kinds = {entry["kind"]: entry["map_kind"] for entry in client.get("/v1/catalogue").json()["explainers"]}
    assert kinds["gradient"] == kinds["guided_grad_cam"] == "sensitivity"
    assert kinds["integrated_gradients"] == "attribution"
    assert kinds["grad_cam"] == "region"
    # these take it from their own method, or the plan declares it
    unknown = {kind for kind, found in kinds.items() if found is None}
    assert unknown == {"noise_tunnel", "precomputed", "captum", "zennit", "callable", "served_explainer"}


def test_catalogue_lists_what_an_augmentation_does_to_pixels(client: TestClient) -> None:
    augmentations = {entry["kind"]: entry for entry in client.get("/v1/catalogue").json()["augmentations"]}
    chosen = ("rotate", "scale", "brightness", "horizontal_flip", "composition")
    assert {kind: augmentations[kind]["equivariant"] for kind in chosen} == {
        "rotate": True,
        "scale": True,
        "brightness": False,
        "horizontal_flip": True,
        "composition": None,
    }
    for contract in AUGMENTATIONS:
        entry = augmentations[contract.model_fields["kind"].default]
        assert entry["identity"] == contract.identity
        assert entry["bound"] == contract.bound > 0
        assert entry["domain"] == list(contract.domain)
        assert entry["unit"] == contract.unit


def test_metrics_name_states_and_routes_but_no_audit(client: TestClient) -> None:
    audit_id = submit(client)
    client.get(f"/v1/audits/{audit_id}")
    deadline = time.monotonic() + 10
    while service_of(client).queue.depth("gpu") == 0 and time.monotonic() < deadline:
        time.sleep(0.01)  # announced behind the answer
    text = client.get("/metrics").text
    assert 'auditcore_audits{state="queued"} 1.0' in text
    assert 'auditcore_queue_depth{queue="gpu"} 1.0' in text
    assert 'route="/v1/audits/{audit_id}"' in text
    assert audit_id not in text
