"""`/v1/models:inspect`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore_service.gateway.routes.service import ServiceDep

router = APIRouter(prefix="/v1", tags=["models"])

RETRY_AFTER_S = 2


@router.post(
    "/models:inspect",
    operation_id="inspectModel",
    summary="What will run on a model, and why the rest will not",
    responses={202: {"model": Inspection, "description": "Known in part; a worker is loading the model."}},
)
def inspect(request: InspectionRequest, response: Response, service: ServiceDep) -> Inspection:
    """Resolve a reference to version and digest, and ask every explainer and check whether it can run on the model.

    Servers and registries are asked at once. Methods that look at layers need a worker that loads the model: the answer
    is then 202 until it has, and the same request again gives the rest. Nothing is audited and nothing is billed.
    """
    found = service.inspections.inspect(request)
    if not found.complete:
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return found
