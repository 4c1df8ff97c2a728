"""`/v1/log`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from auditcore.contracts.true_numbers import LARGEST_INTEGER
from auditcore.evidence.signing import SignedEnvelope
from auditcore_service.gateway.problem_responses import json_example, problem_responses
from auditcore_service.gateway.routes.evidence_examples import LOG_ENTRY_EXAMPLE, NO_SIGNING_KEY
from auditcore_service.gateway.routes.principals import LogReader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import LogPage
from auditcore_service.gateway.signed_responses import EnvelopeResponse

router = APIRouter(prefix="/v1/log", tags=["evidence"])


@router.get(
    "",
    operation_id="readLog",
    summary="The event log",
    responses={200: json_example({"items": [LOG_ENTRY_EXAMPLE], "next_after": 12})},
)
def read(
    service: ServiceDep,
    principal: LogReader,
    after: Annotated[int, Query(ge=0, le=LARGEST_INTEGER, description="`next_after` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries on the page.")] = 100,
) -> LogPage:
    """Oldest first. Each entry holds the hash of the one before; `auditcore verify-log` checks the chain."""
    found = service.evidence.log_after(principal, after, limit=limit + 1)
    items = found[:limit]
    return LogPage(items=items, next_after=items[-1].sequence if len(found) > limit else None)


@router.get(
    "/head",
    operation_id="getLogHead",
    summary="The signed head of the event log",
    response_class=EnvelopeResponse,
    responses={
        200: {
            "model": SignedEnvelope,
            "description": "A DSSE envelope. Its payload names the last entry and its hash.",
        },
        **problem_responses(NO_SIGNING_KEY),
    },
)
def head(service: ServiceDep, principal: LogReader) -> Response:
    """Keep it elsewhere. `auditcore verify-log --head` then finds out whether entries have been removed at the end."""
    return EnvelopeResponse(service.evidence.signed_head(principal), headers={"Cache-Control": "no-store"})
