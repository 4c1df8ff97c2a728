"""`/ui/trainings`: the list of trainings, and each of them."""

from __future__ import annotations

import json
import time
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from auditcore.contracts.training.report import TrainingReport
from auditcore_service.gateway.dashboard.job_views import view_of
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS, not_kept
from auditcore_service.gateway.dashboard.page_route import SEE_OTHER, PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.principals import Auditor, Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.routes.trainings import report as report_of_api
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread

router = APIRouter(prefix="/ui/trainings", route_class=PageRoute, include_in_schema=False)

ON_A_PAGE: Final = 20


@router.get("")
def show(
    request: Request, service: ServiceDep, principal: Reader, cursor: Annotated[str, Query(max_length=512)] = ""
) -> Response:
    """Trainings, newest first."""
    found, following = service.trainings.page(principal, cursor=cursor or None, limit=ON_A_PAGE)
    now = time.time()
    return page(
        request,
        "trainings.html",
        views=[view_of(training, now=now) for training in found],
        following=following,
        address=str(request.base_url).rstrip("/"),
    )


@router.get("/{training_id}")
def one(request: Request, training_id: str, service: ServiceDep, principal: Reader) -> Response:
    """Progress, the error if it failed, and what came out of it."""
    training = service.trainings.get(principal, training_id)
    report = None
    if training.report_digest is not None:
        report = TrainingReport.model_validate_json(service.trainings.report(principal, training_id))
    return page(
        request,
        "training.html",
        view=view_of(training, now=time.time()),
        report=report,
        repeated=json.loads(training.request),
    )


@router.get("/{training_id}/report.json")
def report_file(training_id: str, service: ServiceDep, principal: Reader) -> Response:
    """The report as a file."""
    answer = report_of_api(training_id, service, principal)
    answer.headers["Content-Disposition"] = f'attachment; filename="training-{training_id}.json"'
    return not_kept(answer)


@router.post("/{training_id}/cancel")
async def cancel(training_id: str, service: ServiceDep, threads: ThreadsDep, principal: Auditor) -> Response:
    """Ask it to stop."""
    training = await in_thread(threads.urgent, service.trainings.cancel, principal, training_id)
    return RedirectResponse(f"/ui/trainings/{training.id}", SEE_OTHER, headers=PAGE_HEADERS)
