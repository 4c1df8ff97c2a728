from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.openapi_document import SUBMIT_EXAMPLES
from auditcore_service.gateway.schemas import AuditPage, AuditStatus, EstimateAnswer, ImageBatch, Problem
from auditcore_service.settings import Settings
from auditcore_service.use_cases.annotations import read_boxes, read_labels


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(redis_url="redis://localhost:1")).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_openapi_3_1_with_the_contracts(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {"AuditRequest", "AuditReport", "AuditStatus", "Problem"} <= set(document["components"]["schemas"])
    assert document["components"]["schemas"]["AuditRequest"]["required"] == ["images", "plan"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_operation_has_a_name_of_its_own_and_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names) == 16
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)
                content = response["content"]["application/problem+json"]
                several = [example["value"] for example in content.get("examples", {}).values()]
                for example in several or [content["example"]]:
                    assert Problem.model_validate(example).status == int(status)
        assert "500" in operation["responses"]
        assert operation["summary"]


def test_examples_are_valid(document: dict[str, Any]) -> None:
    for example in SUBMIT_EXAMPLES.values():
        AuditRequest.model_validate(example["value"])
    bodies = {
        "submitAudit": AuditStatus,
        "estimateAudit": EstimateAnswer,
        "listAudits": AuditPage,
        "uploadImageBatch": ImageBatch,
    }
    for _, operation in operations(document):
        if operation["operationId"] in bodies:
            success = next(response for status, response in operation["responses"].items() if status < "300")
            example = success["content"]["application/json"]["example"]
            bodies[operation["operationId"]].model_validate_json(json.dumps(example))


def test_links_lead_from_the_answer_to_operations_that_exist(document: dict[str, Any]) -> None:
    names = {operation["operationId"] for _, operation in operations(document)}
    links = document["paths"]["/v1/audits"]["post"]["responses"]["202"]["links"]
    assert {link["operationId"] for link in links.values()} <= names
    assert set(links) == {"status", "report", "events", "cancel"}
    links = document["paths"]["/v1/audits/{audit_id}/report"]["get"]["responses"]["200"]["links"]
    assert [link["operationId"] for link in links.values()] == ["getArtifact"]


def test_the_upload_states_in_which_pixels_boxes_are(document: dict[str, Any]) -> None:
    form = document["paths"]["/v1/image-batches"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"images", "archive", "labels", "boxes"}
    boxes = form["properties"]["boxes"]
    for word in ("original image", "COCO", "Pascal VOC"):
        assert word in boxes["description"]
    names = ("cat.png", "dog.png")
    for field, read in (("boxes", read_boxes), ("labels", read_labels)):
        for example in form["properties"][field]["examples"]:
            entries = json.loads(example)
            read(example, names[: len(entries)] if isinstance(entries, dict) else [str(n) for n in range(len(entries))])
