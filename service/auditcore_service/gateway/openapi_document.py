"""The OpenAPI document: what FastAPI derives, plus problems, examples and links."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from auditcore.contracts.access import DEMO_FACTORY, DEMO_PACKAGE
from auditcore.contracts.capabilities import NO_GRADIENTS
from auditcore_service.gateway.problems import MEDIA_TYPE
from auditcore_service.gateway.schemas import Problem

_DIGEST = f"sha256:{'0' * 64}"
_AUDIT = "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11"

SUBMIT_EXAMPLES: dict[str, Any] = {
    "explicit": {
        "summary": "Two explainers, three checks",
        "value": {
            "model": {
                "kind": "factory",
                "target": DEMO_FACTORY,
                "args": ["efficientnet-lite0"],
                "weights": {"uri": f"package:{DEMO_PACKAGE}/models/efficientnet-lite0-57934424.pth"},
                "preprocessing": {
                    "resize": 224,
                    "crop": 224,
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                    "interpolation": "bicubic",
                },
            },
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {
                "seed": 7,
                "explainers": [
                    {"kind": "gradient"},
                    {"kind": "integrated_gradients", "steps": 50, "baseline": "mean"},
                ],
                "checks": [
                    {
                        "kind": "sweep",
                        "augmentations": [
                            {"kind": "brightness", "interval": [-0.3, 0.3]},
                            {"kind": "rotate", "interval": [-20, 20]},
                        ],
                        "levels": 5,
                    },
                    {"kind": "deletion", "grid": 14, "repeats": 5},
                    {"kind": "edda", "keep": [0.15], "color": "mean"},
                ],
            },
        },
    },
    "preset": {
        "summary": "A preset with one condition",
        "value": {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"preset": "quick"},
            "policy": [
                {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.0}
            ],
        },
    },
    "comparison": {
        "summary": "Two models on the same images",
        "value": {
            "models": [
                {
                    "name": "current",
                    "model": {
                        "kind": "torchvision",
                        "name": "resnet50",
                        "weights": {"uri": "https://models.example/resnet50-v1.safetensors"},
                    },
                },
                {
                    "name": "candidate",
                    "model": {
                        "kind": "torchvision",
                        "name": "resnet50",
                        "weights": {"uri": "https://models.example/resnet50-v2.safetensors"},
                    },
                },
            ],
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"preset": "quick"},
            "policy": [
                {
                    "model": "candidate",
                    "check": "deletion",
                    "explainer": "gradient",
                    "metric": "inter_model_deletion",
                    "at_least": 0.0,
                }
            ],
        },
    },
}

_ESTIMATE_EXAMPLE = {
    "images": 4,
    "forward_images": 4972,
    "backward_images": 224,
    "passes": 5264,
    "seconds": 70.2,
    "passes_per_s": 74.986,
    "basis": "measured",
    "device": "cpu",
}

_STATUS_EXAMPLE = {
    "id": _AUDIT,
    "state": "running",
    "progress": {"done": 1, "total": 3, "failed": 0},
    "fraction": 0.41,
    "images": 4,
    "estimate": _ESTIMATE_EXAMPLE,
    "created_at": "2026-11-22T12:00:00.000Z",
    "started_at": "2026-11-22T12:00:00.120Z",
    "links": {
        "self": f"/v1/audits/{_AUDIT}",
        "report": f"/v1/audits/{_AUDIT}/report",
        "events": f"/v1/audits/{_AUDIT}/events",
        "cancel": f"/v1/audits/{_AUDIT}/cancel",
    },
}

_BUDGET_ADVICE = (
    "the audit is estimated at 70.2 seconds of workers, above the budget of 60 (measured, 74.986 passes a second); "
    "use at most 3 of the 4 images, or fewer explainers, levels, repeats or draws: check 'deletion' takes 94 % of the "
    "checks' passes; the operator can raise AUDIT_BUDGET_S or AUDIT_BUDGET_PASSES"
)

_BUDGET_EXAMPLE = {
    "type": "urn:auditcore:problem:budget_exceeded",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": _BUDGET_ADVICE,
    "code": "budget_exceeded",
    "errors": [{"pointer": "#/plan", "detail": _BUDGET_ADVICE, "code": "budget_exceeded"}],
}

_BATCH_EXAMPLE = {
    "digest": _DIGEST,
    "images": 1,
    "size_bytes": 240512,
    "entries": [
        {
            "name": "cat.png",
            "digest": _DIGEST,
            "size_bytes": 240512,
            "label": 285,
            "boxes": [{"x0": 10, "y0": 20, "x1": 110, "y1": 90, "label": 285}],
        }
    ],
}

_MAPS_EXAMPLE = {
    "digest": _DIGEST,
    "size_bytes": 802944,
    "file": {"images": 4, "side": 224, "channels": 1, "ordered": True, "targeted": False},
}

_SERVED = {"kind": "torchserve", "url": "http://torchserve:8080", "name": "scans", "version": "3.0"}

INSPECT_EXAMPLES: dict[str, Any] = {
    "served": {"summary": "A model behind a server", "value": {"model": _SERVED}},
    "plan": {
        "summary": "What of a plan will run on a model",
        "value": {"model": {"kind": "demo"}, "plan": {"preset": "quick"}},
    },
}

_INSPECTION_EXAMPLE = {
    "model": {**_SERVED, "sha256": _DIGEST},
    "complete": True,
    "capabilities": {"gradients": False, "top_classes": None},
    "facts": {"server": "TorchServe", "classes": 1000},
    "found": None,
    "explainers": [
        {"name": "gradient", "runs": False, "reason": NO_GRADIENTS},
        {"name": "rise", "runs": True, "reason": None},
    ],
    "checks": [{"name": "deletion", "runs": True, "reason": None}],
}

# operation -> the problems it is known to answer; every operation may also answer 500
_PROBLEMS: dict[str, tuple[int, ...]] = {
    "submitAudit": (400, 409, 413, 422),
    "estimateAudit": (413, 422),
    "inspectModel": (413, 422),
    "listAudits": (422,),
    "getAudit": (404,),
    "cancelAudit": (404,),
    "getReport": (404, 406),
    "getArtifact": (404,),
    "followAudit": (404,),
    "uploadImageBatch": (413, 415, 422),
    "getImageBatch": (404,),
    "uploadMaps": (413, 422),
    "getReadiness": (503,),
}

_PROBLEM_EXAMPLES: dict[int, dict[str, Any]] = {
    400: {
        "type": "urn:auditcore:problem:invalid_idempotency_key",
        "title": "Bad Request",
        "status": 400,
        "detail": "an Idempotency-Key is 1 to 255 printable ASCII characters, such as a UUID",
        "code": "invalid_idempotency_key",
    },
    404: {
        "type": "urn:auditcore:problem:report_not_ready",
        "title": "Not Found",
        "status": 404,
        "detail": f"audit {_AUDIT} is running and has no report; wait until its state is `succeeded`",
        "code": "report_not_ready",
    },
    406: {
        "type": "urn:auditcore:problem:not_acceptable",
        "title": "Not Acceptable",
        "status": 406,
        "detail": "a report comes as application/json, text/html or application/junit+xml; ask for one of them",
        "code": "not_acceptable",
    },
    409: {
        "type": "urn:auditcore:problem:request_in_flight",
        "title": "Conflict",
        "status": 409,
        "detail": "the first request with this Idempotency-Key is still being answered; try again in a moment",
        "code": "request_in_flight",
    },
    413: {
        "type": "urn:auditcore:problem:content_too_large",
        "title": "Request Entity Too Large",
        "status": 413,
        "detail": "the body has more than the 67108864 bytes allowed; "
        "send less, or ask the operator to raise the limit",
        "code": "content_too_large",
    },
    415: {
        "type": "urn:auditcore:problem:unsupported_media_type",
        "title": "Unsupported Media Type",
        "status": 415,
        "detail": "send the images as multipart/form-data, in parts called `images` or one zip called `archive`",
        "code": "unsupported_media_type",
    },
    422: {
        "type": "urn:auditcore:problem:unsafe_reference",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "factory 'os:system' is not allowed; the operator can add it (AUDIT_FACTORIES)",
        "code": "unsafe_reference",
        "errors": [
            {
                "pointer": "#/model/target",
                "detail": "factory 'os:system' is not allowed; the operator can add it (AUDIT_FACTORIES)",
                "code": "unsafe_reference",
            }
        ],
    },
    500: {
        "type": "urn:auditcore:problem:internal_error",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the service failed, not your request; "
        "try again, and if it stays ask the operator to look at the log",
        "code": "internal_error",
    },
    503: {
        "type": "urn:auditcore:problem:unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "queue do not answer; try again, and if it stays ask the operator",
        "code": "unavailable",
    },
}

_AUDIT_LINKS = {
    "status": {"operationId": "getAudit", "parameters": {"audit_id": "$response.body#/id"}},
    "report": {"operationId": "getReport", "parameters": {"audit_id": "$response.body#/id"}},
    "events": {"operationId": "followAudit", "parameters": {"audit_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancelAudit", "parameters": {"audit_id": "$response.body#/id"}},
}


_REPORT_LINKS = {
    "photo": {
        "operationId": "getArtifact",
        "parameters": {"audit_id": "$request.path.audit_id", "digest": "$response.body#/artifacts/0/digest"},
        "description": "Each entry of `artifacts` has such a picture; the first one is a photo.",
    }
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of an app, with every problem, examples of every body, and links from an answer to the next call."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = document["components"]["schemas"]
    for generated in ("HTTPValidationError", "ValidationError"):
        schemas.pop(generated, None)
    _add_problem_schema(schemas)
    for path in document["paths"].values():
        for operation in path.values():
            _describe_problems(operation)
    _add_examples(document["paths"])
    return document


def _add_problem_schema(schemas: dict[str, Any]) -> None:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas["Problem"] = schema


def _describe_problems(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI's own 422 is never answered: problems.py answers it
    responses.pop("422", None)
    for status in (*_PROBLEMS.get(operation["operationId"], ()), 500):
        example = _PROBLEM_EXAMPLES[status]
        responses[str(status)] = {
            "description": example["title"],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
        }


def _add_examples(paths: dict[str, Any]) -> None:
    submit = paths["/v1/audits"]["post"]
    submit["requestBody"]["content"]["application/json"]["examples"] = SUBMIT_EXAMPLES
    refused = submit["responses"]["422"]["content"][MEDIA_TYPE]
    refused["examples"] = {
        "unsafe_reference": {"value": refused.pop("example")},
        "budget_exceeded": {"value": _BUDGET_EXAMPLE},
    }
    estimate = paths["/v1/estimates"]["post"]
    estimate["requestBody"]["content"]["application/json"]["examples"] = SUBMIT_EXAMPLES
    estimate["responses"]["200"]["content"]["application/json"]["example"] = {
        "estimate": _ESTIMATE_EXAMPLE,
        "within_budget": False,
        "advice": _BUDGET_ADVICE,
    }
    accepted = submit["responses"]["202"]
    accepted["headers"] = {
        "Location": {"description": "The audit.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds to wait before asking.", "schema": {"type": "integer"}},
    }
    accepted["links"] = _AUDIT_LINKS
    for response in (
        accepted,
        paths["/v1/audits/{audit_id}"]["get"]["responses"]["200"],
        paths["/v1/audits/{audit_id}/cancel"]["post"]["responses"]["202"],
    ):
        response["content"]["application/json"]["example"] = _STATUS_EXAMPLE
    paths["/v1/audits/{audit_id}/report"]["get"]["responses"]["200"]["links"] = _REPORT_LINKS
    page = paths["/v1/audits"]["get"]["responses"]["200"]
    page["content"]["application/json"]["example"] = {"items": [_STATUS_EXAMPLE], "next_cursor": None}
    for response in (
        paths["/v1/image-batches"]["post"]["responses"]["201"],
        paths["/v1/image-batches/{digest}"]["get"]["responses"]["200"],
    ):
        response["content"]["application/json"]["example"] = _BATCH_EXAMPLE
    paths["/v1/maps"]["post"]["responses"]["201"]["content"]["application/json"]["example"] = _MAPS_EXAMPLE
    inspect = paths["/v1/models:inspect"]["post"]
    inspect["requestBody"]["content"]["application/json"]["examples"] = INSPECT_EXAMPLES
    for status in ("200", "202"):
        inspect["responses"][status]["content"]["application/json"]["example"] = _INSPECTION_EXAMPLE
