"""`/ui/compare`: two audits side by side."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from auditcore.report.decision import decision_sentence
from auditcore.report.reading import read_report
from auditcore_service.gateway.dashboard.job_views import view_of
from auditcore_service.gateway.dashboard.page_route import PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.principals import Reader
from auditcore_service.gateway.routes.service import ServiceDep

router = APIRouter(prefix="/ui/compare", route_class=PageRoute, include_in_schema=False)


@router.get("")
def show(
    request: Request,
    service: ServiceDep,
    principal: Reader,
    first: Annotated[str, Query(description="The audit to compare with.")],
    second: Annotated[str, Query(description="The audit that is compared.")],
) -> Response:
    """Verdicts, conditions and headline metrics of both, and differences where they share images."""
    from auditcore_service.gateway.dashboard.two_audits import (  # noqa: PLC0415 - loads numpy and scipy
        compare_audits,
    )

    reports = [read_report(service.audits.report(principal, one)) for one in (first, second)]
    now = time.time()
    return page(
        request,
        "comparison.html",
        views=[view_of(service.audits.get(principal, one), now=now) for one in (first, second)],
        reports=reports,
        decisions=[decision_sentence(one) for one in reports],
        found=compare_audits(*reports),
    )
