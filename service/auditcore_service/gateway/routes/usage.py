"""`/v1/usage`."""

from __future__ import annotations

import time

from fastapi import APIRouter

from auditcore_service.gateway.problem_responses import json_example
from auditcore_service.gateway.routes.principals import Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import LimitUsage, Usage
from auditcore_service.timestamps import rfc3339

router = APIRouter(prefix="/v1/usage", tags=["usage"])

USAGE_EXAMPLE = {
    "tenant": "research",
    "requests_per_minute": {"limit": 600, "used": 1, "resets_at": "2026-11-27T10:01:00.000Z"},
    "running_audits": {"limit": 4, "used": 1},
    "passes_per_day": {"limit": 50000000, "used": 812400, "resets_at": "2026-11-28T00:00:00.000Z"},
    "stored_bytes": {"limit": 10737418240, "used": 240512},
}


@router.get(
    "",
    operation_id="getUsage",
    summary="Limits of your tenant, and what is used of them",
    responses={200: json_example(USAGE_EXAMPLE)},
)
def get(principal: Reader, service: ServiceDep) -> Usage:
    """Look before you submit. POST /v1/estimates says how many passes an audit needs.

    What exceeds a limit is refused with 429. The header Retry-After is there where waiting helps.
    """
    found = service.quotas.usage(principal.tenant)
    requests = service.rates.standing(principal.tenant)
    return Usage(
        tenant=found.tenant,
        requests_per_minute=LimitUsage(limit=None, used=None, resets_at=None)
        if requests is None
        else LimitUsage(
            limit=requests.quota,
            used=requests.quota - requests.remaining,
            resets_at=rfc3339(time.time() + requests.reset_s),
        ),
        running_audits=LimitUsage(limit=found.limits.running_audits, used=found.running_audits, resets_at=None),
        passes_per_day=LimitUsage(
            limit=found.limits.passes_per_day, used=found.passes_today, resets_at=rfc3339(found.day_ends_at)
        ),
        stored_bytes=LimitUsage(limit=found.limits.stored_bytes, used=found.stored_bytes, resets_at=None),
    )
