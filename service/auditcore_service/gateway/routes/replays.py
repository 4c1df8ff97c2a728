"""`/v1/audits/{audit_id}/replay`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from auditcore.evidence.replay import TOLERANCE, ReplayComparison
from auditcore_service.gateway.problem_responses import (
    QUOTA_OF_AUDITS,
    TOO_MANY_REQUESTS,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.routes.audit_examples import AUDIT_ID, DELETED_AUDIT, NO_AUDIT, NOT_READY, STATUS_EXAMPLE
from auditcore_service.gateway.routes.audits import AuditId, path_of, status_of
from auditcore_service.gateway.routes.following import RETRY_AFTER_S
from auditcore_service.gateway.routes.principals import Auditor, Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import AuditStatus
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread

router = APIRouter(prefix="/v1/audits/{audit_id}/replay", tags=["evidence"])

_NO_REPLAY = problem_example(
    404,
    "not_replayed",
    f"audit {AUDIT_ID} is no replay; start one with POST /v1/audits/{AUDIT_ID}/replay, and ask for its id",
)


@router.post(
    "",
    status_code=202,
    operation_id="replayAudit",
    summary="Run an audit again",
    responses={
        202: json_example(STATUS_EXAMPLE),
        **problem_responses(NO_AUDIT, DELETED_AUDIT, NOT_READY, TOO_MANY_REQUESTS, QUOTA_OF_AUDITS),
    },
)
async def start(
    audit_id: AuditId, response: Response, service: ServiceDep, threads: ThreadsDep, principal: Auditor
) -> AuditStatus:
    """A new audit of the same request, with models as they were pinned. GET this path of the new audit to compare."""
    audit = await in_thread(threads.slow, service.replays.start, principal, audit_id)
    response.headers["Location"] = path_of(audit.id)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(audit)


@router.get(
    "",
    operation_id="compareReplay",
    summary="How a replay differs from its original",
    responses={
        200: json_example(
            {
                "original": AUDIT_ID,
                "replay": "5c2a8f0e-1b7d-4f54-8f43-6f3f1d2f8a10",
                "tolerance": TOLERANCE,
                "reproduced": True,
                "differences": [],
                "circumstances": [{"where": "cost.device", "original": "cpu", "replay": "cuda:0"}],
            }
        ),
        **problem_responses(NO_AUDIT, DELETED_AUDIT, NOT_READY, _NO_REPLAY),
    },
)
def compare(
    audit_id: AuditId,
    service: ServiceDep,
    principal: Reader,
    tolerance: Annotated[
        float, Query(ge=0, le=1, description="Largest difference of two numbers that counts as none.")
    ] = TOLERANCE,
) -> ReplayComparison:
    """Lists every field of the report that differs by more than the tolerance, relative or absolute."""
    return service.replays.compare(principal, audit_id, tolerance=tolerance)
