"""`/v1/models:inspect`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from auditcore.contracts.capabilities import NO_GRADIENTS
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    UNSAFE_REFERENCE,
    json_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.principals import Auditor
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.thread_limits import ThreadsDep

router = APIRouter(prefix="/v1", tags=["models"], route_class=CheckedBodies)

RETRY_AFTER_S = 2
"""How long a client should wait before it asks again; a worker loads a small model in this time."""

_SERVED = {"kind": "torchserve", "url": "http://torchserve:8080", "name": "scans", "version": "3.0"}

REQUEST_EXAMPLES: dict[str, Any] = {
    "served": {"summary": "A model behind a server", "value": {"model": _SERVED}},
    "plan": {
        "summary": "Which parts of a plan will run on a model",
        "value": {"model": {"kind": "demo"}, "plan": {"preset": "quick"}},
    },
}

INSPECTION_EXAMPLE = {
    "model": {**_SERVED, "sha256": f"sha256:{'0' * 64}"},
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


@router.post(
    "/models:inspect",
    operation_id="inspectModel",
    summary="What will run on a model, and why the rest will not",
    responses={
        200: json_example(INSPECTION_EXAMPLE),
        202: {
            "model": Inspection,
            "description": "Known in part; a worker is loading the model.",
            **json_example(
                INSPECTION_EXAMPLE,
                headers={"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
            ),
        },
        **problem_responses(CONTENT_TOO_LARGE, UNSAFE_REFERENCE),
    },
)
async def inspect(
    request: Annotated[InspectionRequest, Body(openapi_examples=REQUEST_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
) -> Inspection:
    """Resolve a model reference to version and digest, and find out which explainers and checks can run on the model.

    Servers and registries are asked at once. Methods that look at layers need a worker that loads the model: until it
    has, the status is 202; send the same request again for the rest. Nothing is audited and nothing is billed.
    """
    found = await service.inspections.inspect(principal, request, threads=threads.slow)
    if not found.complete:
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return found
