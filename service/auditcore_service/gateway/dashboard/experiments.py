"""`/ui/experiments`: studies, remedies and measures that retrain, and each of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from auditcore.contracts.experiments.request import ExperimentKind
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.retraining.f_fidelity import FFidelityReport
from auditcore.contracts.retraining.idsds import IdsdsReport
from auditcore.contracts.retraining.roar import RoarReport
from auditcore.contracts.studies.report import StudyReport
from auditcore.studies.tables import study_tables
from auditcore_service.gateway.dashboard.job_views import view_of
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS, not_kept
from auditcore_service.gateway.dashboard.page_route import SEE_OTHER, PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.experiments import file as file_of_api
from auditcore_service.gateway.routes.experiments import report as report_of_api
from auditcore_service.gateway.routes.principals import Auditor, Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.store.experiment_files import CHECKPOINTS

router = APIRouter(prefix="/ui/experiments", route_class=PageRoute, include_in_schema=False)

ON_A_PAGE: Final = 20

KINDS: Final[Mapping[ExperimentKind, str]] = {
    "study": "study",
    "remedy": "remedy",
    "roar": "ROAR",
    "f_fidelity": "F-Fidelity",
    "idsds": "IDSDS",
}
"""What each kind is called."""

_REPORTS: Final[Mapping[ExperimentKind, Any]] = {
    "study": StudyReport,
    "remedy": RemedyReport,
    "roar": RoarReport,
    "f_fidelity": FFidelityReport,
    "idsds": IdsdsReport,
}


@router.get("")
def show(
    request: Request, service: ServiceDep, principal: Reader, cursor: Annotated[str, Query(max_length=512)] = ""
) -> Response:
    """Experiments, newest first."""
    found, following = service.experiments.page(principal, cursor=cursor or None, limit=ON_A_PAGE)
    now = time.time()
    return page(
        request,
        "experiments.html",
        rows=[(view_of(one, now=now), KINDS[_kind_of(one.request)]) for one in found],
        following=following,
        address=str(request.base_url).rstrip("/"),
    )


@router.get("/{experiment_id}")
def one(request: Request, experiment_id: str, service: ServiceDep, principal: Reader) -> Response:
    """Progress, the error if it failed, what came out of it, and its files."""
    experiment = service.experiments.get(principal, experiment_id)
    kind = _kind_of(experiment.request)
    files = service.experiments.files(principal, experiment_id)
    report = None
    if experiment.report_digest is not None:
        report = _REPORTS[kind].model_validate_json(service.experiments.content(principal, experiment.report_digest))
    return page(
        request,
        "experiment.html",
        view=view_of(experiment, now=time.time()),
        kind=kind,
        kind_name=KINDS[kind],
        report=report,
        tables=study_tables(report) if isinstance(report, StudyReport) else (),
        # only an experiment that goes on needs the others
        files=[one for one in files if not one.name.startswith(CHECKPOINTS)],
        repeated=json.loads(experiment.request),
    )


@router.get("/{experiment_id}/report.json")
def report_file(experiment_id: str, service: ServiceDep, principal: Reader) -> Response:
    """The report as a file."""
    answer = report_of_api(experiment_id, service, principal)
    answer.headers["Content-Disposition"] = f'attachment; filename="experiment-{experiment_id}.json"'
    return not_kept(answer)


@router.get("/{experiment_id}/files/{name:path}")
def kept_file(experiment_id: str, name: str, service: ServiceDep, principal: Reader) -> Response:
    """One of its files, to be saved; a browser opens none of them."""
    answer = file_of_api(experiment_id, name, service, principal)
    answer.headers["Content-Disposition"] = "attachment"
    return not_kept(answer)


@router.post("/{experiment_id}/cancel")
async def cancel(experiment_id: str, service: ServiceDep, threads: ThreadsDep, principal: Auditor) -> Response:
    """Ask it to stop."""
    experiment = await in_thread(threads.urgent, service.experiments.cancel, principal, experiment_id)
    return RedirectResponse(f"/ui/experiments/{experiment.id}", SEE_OTHER, headers=PAGE_HEADERS)


def _kind_of(request: str) -> ExperimentKind:
    """What kind of experiment a stored request is."""
    kind: ExperimentKind = json.loads(request)["plan"]["kind"]
    return kind
