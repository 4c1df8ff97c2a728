"""`/v1/estimates`."""

from __future__ import annotations

from fastapi import APIRouter

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import EstimateAnswer

router = APIRouter(prefix="/v1/estimates", tags=["audits"])


@router.post("", operation_id="estimateAudit", summary="What an audit would cost")
def estimate(request: AuditRequest, service: ServiceDep) -> EstimateAnswer:
    """Check a request as POST /v1/audits does, and answer its price instead of starting it. Nothing is stored.

    A price above the operator's budget is an answer, not an error: `within_budget` is then false.
    """
    quote = service.audits.estimate(request)
    return EstimateAnswer(estimate=quote.estimate, within_budget=quote.objection is None, advice=quote.objection)
