"""The form of a new audit: it sends what the API takes, and shows each mistake at the field that it came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient

import digits
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.dashboard.audit_form import FormMistakes, document_of, field_of, fields_of
from auditcore_service.gateway.dashboard.model_families import families_of, family_of
from auditcore_service.gateway.dashboard.texts import ago, pretty_json, size, span
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from dashboard_audits import HOSTILE, PLAN, settings_for
from small_model import SMALL_MODEL

FIELDS = {
    "model_kind": "json",
    "model_json": json.dumps(SMALL_MODEL),
    "plan": "json",
    "plan_json": json.dumps(PLAN),
    "name": "from the form",
    "tags": "model: scans\nversion:7",
}
FILES = [("images", (f"{number}.png", digits.png(number), "image/png")) for number in range(3)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(create_app(settings_for(tmp_path_factory.mktemp("form")))) as opened:
        yield opened


def submitted(client: TestClient) -> int:
    """Number of audits."""
    return len(client.get("/v1/audits?limit=100").json()["items"])


def mistakes(text: str) -> dict[str, str]:
    """Field -> what the page says beside it."""
    found = re.findall(r'<div class="mistakes" id="of-([^"]*)">(.*?)</div>', text, re.DOTALL)
    return {name: unescape(re.sub(r"<[^>]*>", " ", said)) for name, said in found}


def test_images_become_an_audit(client: TestClient) -> None:
    data = FIELDS | {"labels": "[0, 1, 2]", "key": "one-key", "action": "submit"}
    answer = client.post("/ui/new", data=data, files=FILES, follow_redirects=False)
    assert answer.status_code == 303, mistakes(answer.text)
    audit_id = answer.headers["Location"].rpartition("/")[2]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    stored = json.loads(service.audits.get(ANONYMOUS, audit_id).request)
    assert (stored["name"], stored["tags"]) == ("from the form", {"model": "scans", "version": "7"})
    entries = service.batches.get(ANONYMOUS, stored["images"]["digest"]).entries
    assert [(entry.name, entry.label) for entry in entries] == [("0.png", 0), ("1.png", 1), ("2.png", 2)]
    # a second click sends the same key, and starts nothing
    again = client.post("/ui/new", data=data, files=FILES, follow_redirects=False)
    assert again.headers["Location"] == answer.headers["Location"]


def test_the_price_comes_before_anything_is_submitted(client: TestClient) -> None:
    before = submitted(client)
    answer = client.post("/ui/new", data=FIELDS | {"action": "estimate"}, files=FILES)
    assert answer.status_code == 200
    assert "<h2>Price</h2>" in answer.text
    assert "Within the limits. Nothing was submitted yet." in answer.text
    digest = re.search(r'name="batch" value="(sha256:[0-9a-f]{64})"', answer.text)
    assert digest is not None
    shown = re.search(r'<pre id="request"[^>]*>(.*?)</pre>', answer.text, re.DOTALL)
    assert shown is not None
    document = json.loads(unescape(shown[1]))
    # what the page shows is what the API takes, and it says the same price
    price = client.post("/v1/estimates", json=document).json()["estimate"]
    assert f"{price['passes']:,}" in answer.text
    assert submitted(client) == before


def test_a_model_is_inspected_without_images(client: TestClient) -> None:
    answer = client.post("/ui/new", data=FIELDS | {"action": "inspect"})
    assert answer.status_code == 200
    assert "What runs on this model" in answer.text
    assert "<bdi>grad_cam</bdi>" in answer.text


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({}, "images", "choose image files"),
        ({"batch": "sha256:" + "0" * 64}, "images", "no image batch"),
        ({"batch": "x"}, "images", "sha256"),
        ({"model_json": "{"}, "model_json", "this is not JSON"),
        ({"model_json": ""}, "model_json", "this field is empty"),
        ({"model_json": '{"kind": "torchvision", "name": "X Y"}'}, "model_json", "pattern"),
        ({"model_kind": "torchvision", "model_name": "resnet50"}, "model_weights", "required"),
        ({"model_kind": "torchvision", "model_name": "R 50", "model_weights": "random:1"}, "model_name", "pattern"),
        (
            {"model_kind": "torchvision", "model_name": "resnet50", "model_weights": "x", "model_classes": "ten"},
            "model_classes",
            "whole number",
        ),
        ({"plan": "nothing"}, "plan", "quick"),
        ({"plan": "quick", "seed": "one"}, "seed", "whole number"),
        ({"plan_json": '{"explainers": []}'}, "plan_json", "#/plan/checks: this field is required"),
        ({"policy": "nowhere@1.0.0"}, "policy", "nowhere"),
        ({"policy": "json", "policy_json": '[{"check": "deletion"}]'}, "policy_json", "#/policy/0/metric"),
        ({"tags": "no colon"}, "tags", "key:value"),
        ({"tags": "k\u00e4y:value"}, "tags", "pattern"),
        ({"name": "x" * 201}, "name", "200"),
    ],
)
def test_a_mistake_is_shown_at_its_field(client: TestClient, changes: dict[str, str], field: str, said: str) -> None:
    before = submitted(client)
    batch = {} if not changes else {"batch": stored_batch(client)}
    answer = client.post("/ui/new", data=FIELDS | batch | changes | {"action": "submit"})
    assert answer.status_code in {404, 422}
    assert set(mistakes(answer.text)) == {field}, mistakes(answer.text)
    assert said in mistakes(answer.text)[field]
    assert "Nothing was submitted." in answer.text
    assert f'aria-describedby="of-{field}"' in answer.text
    assert submitted(client) == before


def stored_batch(client: TestClient) -> str:
    digest: str = client.post("/v1/image-batches", files=FILES).json()["digest"]
    return digest


def test_a_file_that_is_no_image_is_refused_beside_the_files(client: TestClient) -> None:
    answer = client.post("/ui/new", data=FIELDS | {"action": "submit"}, files=[("images", ("x.png", b"", "image/png"))])
    assert answer.status_code == 422
    assert set(mistakes(answer.text)) == {"images"}
    labels = client.post("/ui/new", data=FIELDS | {"labels": "[1]", "action": "submit"}, files=FILES)
    assert set(mistakes(labels.text)) == {"labels"}


def test_the_equivalent_request_follows_the_form(client: TestClient) -> None:
    answer = client.post("/ui/new/request", data={"model_kind": "demo", "plan": "standard", "name": HOSTILE})
    assert answer.status_code == 200
    assert "<img" not in answer.text
    shown = re.search(r'<pre id="request"[^>]*>(.*?)</pre>', answer.text, re.DOTALL)
    assert shown is not None
    assert json.loads(unescape(shown[1])) == {
        "model": {"kind": "demo"},
        "plan": {"preset": "standard"},
        "name": HOSTILE,
    }


def test_a_stored_request_fills_the_form_and_comes_out_the_same(client: TestClient) -> None:
    batch = stored_batch(client)
    document = {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": batch}, "plan": PLAN, "tags": {"a": "b:c"}}
    audit_id = client.post("/v1/audits", json=document).json()["id"]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    stored = json.loads(service.audits.get(ANONYMOUS, audit_id).request)
    found = FormMistakes()
    filled = document_of(fields_of(stored), found)
    assert not found.by_field
    assert {name: stored[name] for name in filled} == filled
    assert audit_id not in client.get(f"/ui/new?from={audit_id}").text.partition("<form")[0]


@pytest.mark.parametrize(
    ("pointer", "fields", "expected"),
    [
        ("#/model/weights/uri", {"model_kind": "timm"}, "model_weights"),
        ("#/model/torchvision/weights/sha256", {"model_kind": "torchvision"}, "model_sha256"),
        ("#/model/weights", {"model_kind": "json"}, "model_json"),
        ("#/model/kind", {"model_kind": "timm"}, "model_kind"),
        ("#/plan/seed", {"plan": "quick"}, "seed"),
        ("#/plan/seed", {"plan": "json"}, "plan_json"),
        ("#/policy/0/metric", {"policy": "json"}, "policy_json"),
        ("#/images/0", {}, "images"),
        ("#", {}, ""),
        ("#/nothing", {}, ""),
    ],
)
def test_a_place_in_the_request_has_a_field(pointer: str, fields: dict[str, str], expected: str) -> None:
    assert field_of(pointer, fields) == expected


@pytest.mark.parametrize(
    ("reference", "family"),
    [
        ({"kind": "torchvision", "name": "resnet50", "weights": {"uri": "file:///a"}}, "torchvision resnet50"),
        ({"kind": "mlflow", "uri": "models:/scans/3"}, "mlflow models:/scans"),
        ({"kind": "mlflow", "uri": "models:/scans@prod"}, "mlflow models:/scans"),
        ({"kind": "torchserve", "url": "http://x", "name": "scans", "version": "2"}, "torchserve scans"),
        ({"kind": "onnx", "uri": "file:///scans.onnx"}, "onnx file:///scans.onnx"),
        ({"kind": "demo"}, "demo"),
    ],
)
def test_versions_of_a_model_are_a_family(reference: dict[str, Any], family: str) -> None:
    assert family_of(reference) == family
    assert families_of({"model": reference}) == (family,)
    assert families_of({"models": [{"name": "a", "model": reference}, {"name": "b", "model": reference}]}) == (family,)


def test_times_and_sizes_are_short() -> None:
    assert [span(one) for one in (0.2, 45, 60, 200, 7500, 90_000)] == [
        "< 1 s",
        "45 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
        "1 d 1 h",
    ]
    now = 1_800_000_000.0
    assert [ago(now - one, now) for one in (1, 30, 200, 7500, 90 * 86_400)] == [
        "just now",
        "30 s ago",
        "3 min ago",
        "2 h ago",
        "2026-10-17",
    ]
    assert ago(now + 7200, now) == "in 2 h"
    assert [size(one) for one in (12, 54_200, 2_400_000, 3e13)] == ["12 B", "54.2 kB", "2.4 MB", "30.0 TB"]
    assert pretty_json({"name": "\u202eabc"}) == '{\n  "name": "\\u202eabc"\n}'
