"""`/ui/audits`: the list of audits, newest first."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from auditcore_service.gateway.dashboard.job_views import view_of
from auditcore_service.gateway.dashboard.list_filters import STATES, VERDICTS, ListFilterDep
from auditcore_service.gateway.dashboard.page_route import PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.principals import Reader
from auditcore_service.gateway.routes.service import ServiceDep

router = APIRouter(prefix="/ui/audits", route_class=PageRoute, include_in_schema=False)

ON_A_PAGE: Final = 20


@router.get("")
def show(
    request: Request,
    service: ServiceDep,
    principal: Reader,
    filtered: ListFilterDep,
    cursor: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    """One page of the list. The filters are those of GET /v1/audits, and stand in the address."""
    found, following = service.audits.page(principal, cursor=cursor or None, limit=ON_A_PAGE, wanted=filtered.wanted)
    now = time.time()
    return page(
        request,
        "audits.html",
        views=[view_of(audit, now=now) for audit in found],
        filtered=filtered,
        first=not cursor,
        older=None if following is None else filtered.address("/ui/audits", cursor=following),
        newest=filtered.address("/ui/audits"),
        states=STATES,
        verdicts=VERDICTS,
        address=str(request.base_url).rstrip("/"),
    )


@router.get("/{audit_id}/row")
def row(request: Request, audit_id: str, service: ServiceDep, principal: Reader) -> Response:
    """One row, for a script that replaces the row of an audit that has ended."""
    view = view_of(service.audits.get(principal, audit_id), now=time.time())
    return page(request, "audit_row.html", view=view)
