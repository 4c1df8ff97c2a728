"""`/v1/estimates`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    UNSAFE_REFERENCE,
    json_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.audit_examples import BUDGET_ADVICE, ESTIMATE_EXAMPLE, SUBMIT_EXAMPLES
from auditcore_service.gateway.routes.principals import Auditor
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import EstimateAnswer
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread

router = APIRouter(prefix="/v1/estimates", tags=["audits"], route_class=CheckedBodies)


@router.post(
    "",
    operation_id="estimateAudit",
    summary="What an audit would cost",
    responses={
        200: json_example({"estimate": ESTIMATE_EXAMPLE, "within_budget": False, "advice": BUDGET_ADVICE}),
        **problem_responses(CONTENT_TOO_LARGE, UNSAFE_REFERENCE),
    },
)
async def estimate(
    request: Annotated[AuditRequest, Body(openapi_examples=SUBMIT_EXAMPLES)],
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
) -> EstimateAnswer:
    """Check a request as POST /v1/audits does, and return its price instead of starting it. Nothing is stored.

    A price above the operator's budget, or above the passes that your tenant may still submit today, is no error:
    `within_budget` is then false.
    """
    quote = await in_thread(threads.slow, service.audits.estimate, principal, request)
    return EstimateAnswer(estimate=quote.estimate, within_budget=quote.objection is None, advice=quote.objection)
