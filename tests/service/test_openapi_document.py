from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from auditcore.contracts.contract import Contract, attribute_texts
from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.map_files import StoredMaps
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import report_schema
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.request import TrainingRequest
from auditcore.evidence.replay import ReplayComparison
from auditcore_service.gateway.api_key_bodies import ApiKeyEntry, ApiKeyPage, IssuedApiKey
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.routes.audit_examples import SUBMIT_EXAMPLES
from auditcore_service.gateway.routes.experiment_examples import EXPERIMENT_EXAMPLES
from auditcore_service.gateway.routes.models import REQUEST_EXAMPLES
from auditcore_service.gateway.routes.training_examples import TRAIN_EXAMPLES
from auditcore_service.gateway.schemas import (
    AuditPage,
    AuditStatus,
    DeliveryEntry,
    DeliveryPage,
    EstimateAnswer,
    ExperimentFileList,
    ExperimentPage,
    ExperimentStatus,
    ImageBatch,
    KeyList,
    LogPage,
    PolicyPage,
    PostedPolicy,
    Problem,
    SignOff,
    SignOffList,
    TrainingPage,
    TrainingStatus,
    Usage,
    WebhookEntry,
    WebhookList,
    WebhookSecret,
)
from auditcore_service.settings import Settings
from auditcore_service.use_cases.annotations import read_boxes, read_labels
from auditcore_service.webhook_events import (
    AuditEvent,
    AuditEventType,
    ExperimentEvent,
    ExperimentEventType,
    PingEvent,
    TrainingEvent,
    TrainingEventType,
)


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
    assert len(set(names)) == len(names) == 63
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
    for example in TRAIN_EXAMPLES.values():
        TrainingRequest.model_validate(example["value"])
    for example in EXPERIMENT_EXAMPLES.values():
        EXPERIMENT_REQUEST.validate_python(example["value"])
    for example in REQUEST_EXAMPLES.values():
        InspectionRequest.model_validate(example["value"])
    bodies = {
        "submitAudit": AuditStatus,
        "estimateAudit": EstimateAnswer,
        "listAudits": AuditPage,
        "uploadImageBatch": ImageBatch,
        "getImageBatch": ImageBatch,
        "getAudit": AuditStatus,
        "cancelAudit": AuditStatus,
        "uploadMaps": StoredMaps,
        "inspectModel": Inspection,
        "storePolicy": PostedPolicy,
        "listPolicies": PolicyPage,
        "getPolicy": PolicyDocument,
        "signOff": SignOff,
        "listSignOffs": SignOffList,
        "listKeys": KeyList,
        "readLog": LogPage,
        "replayAudit": AuditStatus,
        "compareReplay": ReplayComparison,
        "submitTraining": TrainingStatus,
        "estimateTraining": EstimateAnswer,
        "listTrainings": TrainingPage,
        "getTraining": TrainingStatus,
        "cancelTraining": TrainingStatus,
        "submitExperiment": ExperimentStatus,
        "estimateExperiment": EstimateAnswer,
        "listExperiments": ExperimentPage,
        "getExperiment": ExperimentStatus,
        "cancelExperiment": ExperimentStatus,
        "listExperimentFiles": ExperimentFileList,
        "getUsage": Usage,
        "createWebhook": WebhookSecret,
        "listWebhooks": WebhookList,
        "getWebhook": WebhookEntry,
        "rotateWebhookSecret": WebhookSecret,
        "pingWebhook": DeliveryEntry,
        "listWebhookDeliveries": DeliveryPage,
        "createApiKey": IssuedApiKey,
        "listApiKeys": ApiKeyPage,
        "getApiKey": ApiKeyEntry,
        "rotateApiKey": IssuedApiKey,
        "revokeApiKey": ApiKeyEntry,
    }
    for _, operation in operations(document):
        if operation["operationId"] in bodies:
            success = next(response for status, response in operation["responses"].items() if status < "300")
            example = success["content"]["application/json"]["example"]
            bodies[operation["operationId"]].model_validate_json(json.dumps(example))


def test_every_operation_of_a_tenant_answers_429_with_the_limits(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        limited = "/v1/" in name and not name.endswith("/v1/keys")
        assert ("429" in operation["responses"]) == limited, name
        if limited:
            assert set(operation["responses"]["429"]["headers"]) == {"Retry-After", "RateLimit-Policy", "RateLimit"}
    submit = document["paths"]["/v1/audits"]["post"]["responses"]["429"]["content"]["application/problem+json"]
    assert set(submit["examples"]) == {"too_many_requests", "quota_exceeded"}


def test_the_events_of_webhooks_are_declared(document: dict[str, Any]) -> None:
    kinds: dict[str, type[Contract]] = {
        **dict.fromkeys(get_args(AuditEventType), AuditEvent),
        **dict.fromkeys(get_args(TrainingEventType), TrainingEvent),
        **dict.fromkeys(get_args(ExperimentEventType), ExperimentEvent),
        "ping": PingEvent,
    }
    assert set(document["webhooks"]) == set(kinds)
    for name, methods in document["webhooks"].items():
        body = methods["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"] == {"$ref": f"#/components/schemas/{kinds[name].__name__}"}
        assert kinds[name].model_validate(body["example"]).model_dump()["type"] == name
        headers = [one["name"] for one in methods["post"]["parameters"]]
        assert headers == ["webhook-id", "webhook-timestamp", "webhook-signature"]
        assert set(methods["post"]["responses"]) == {"204", "410", "default"}


def undescribed(schemas: dict[str, Any]) -> list[str]:
    return [
        f"{name}.{key}"
        for name, schema in schemas.items()
        for key, value in schema.get("properties", {}).items()
        if not value.get("description")
    ]


def test_every_property_and_parameter_is_described(document: dict[str, Any]) -> None:
    assert undescribed(document["components"]["schemas"]) == []
    schema = report_schema()
    assert undescribed({**schema["$defs"], "AuditReport": schema}) == []
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])
        assert operation["description"], name


class Described(Contract):
    """A model.

    It has a second paragraph.

    Attributes:
        kind: Overruled by the base? No: the nearest class speaks.
        length: In pixels; a text of
            two lines.
    """

    length: int
    other: int = 0


class Further(Described):
    """A model of its own.

    Attributes:
        other: Said here.
    """


def test_texts_of_attributes_come_from_docstrings_of_the_class_and_its_bases() -> None:
    assert attribute_texts(Further) == {
        "kind": "Overruled by the base? No: the nearest class speaks.",
        "length": "In pixels; a text of two lines.",
        "other": "Said here.",
    }
    schema = Further.model_json_schema()
    assert schema["description"] == "A model of its own."
    assert schema["properties"]["length"]["description"] == "In pixels; a text of two lines."
    assert Described.model_json_schema()["description"] == "A model.\n\nIt has a second paragraph."


def test_no_union_of_objects_has_a_default_that_generators_cannot_write(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for key, value in schema.get("properties", {}).items():
            assert "$ref" in value or not isinstance(value.get("default"), dict), (name, key)
    assert schemas["NoiseTunnel"]["properties"]["method"]["description"].endswith('Default: `{"kind": "gradient"}`.')


def test_every_schema_has_a_title_of_its_own(document: dict[str, Any]) -> None:
    """A generator names its classes after titles; of two with one title it leaves out the second."""
    schemas = document["components"]["schemas"]
    titles = [schema["title"] for schema in schemas.values()]
    assert len(titles) == len(set(titles))
    assert all(name == schema["title"] for name, schema in schemas.items())


def test_the_document_names_license_contact_and_server(document: dict[str, Any]) -> None:
    assert document["info"]["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    assert document["info"]["contact"]["name"]
    assert [server["url"] for server in document["servers"]] == ["/"]
    used = {tag for _, operation in operations(document) for tag in operation["tags"]}
    assert {tag["name"] for tag in document["tags"]} == used


def test_links_lead_from_the_answer_to_operations_that_exist(document: dict[str, Any]) -> None:
    names = {operation["operationId"] for _, operation in operations(document)}
    links = document["paths"]["/v1/audits"]["post"]["responses"]["202"]["links"]
    assert {link["operationId"] for link in links.values()} <= names
    assert set(links) == {"status", "report", "events", "cancel", "evidence"}
    links = document["paths"]["/v1/audits/{audit_id}/report"]["get"]["responses"]["200"]["links"]
    assert [link["operationId"] for link in links.values()] == ["getArtifact"]


def test_the_upload_states_in_which_pixels_boxes_are(document: dict[str, Any]) -> None:
    form = document["paths"]["/v1/image-batches"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    texts = {"labels", "boxes", "box_format", "annotations", "classes", "labels_from_folders"}
    assert set(form["properties"]) == {"images", "archive", "masks", *texts}
    boxes = form["properties"]["boxes"]
    for word in ("original image", "COCO", "Pascal VOC"):
        assert word in boxes["description"]
    names = ("cat.png", "dog.png")
    for field, read in (("boxes", read_boxes), ("labels", read_labels)):
        for example in form["properties"][field]["examples"]:
            entries = json.loads(example)
            read(example, names[: len(entries)] if isinstance(entries, dict) else [str(n) for n in range(len(entries))])
