"""`/ui/audits/{audit_id}`: an audit, its verdict, and what can be done with it."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from auditcore.contracts.report import AuditReport
from auditcore.report.decision import decision_sentence
from auditcore.report.headlines import SummaryTable, summary_columns, summary_rows, summary_tables
from auditcore.report.outcomes import judged_value, result_name, wanted_text
from auditcore.report.reading import read_report
from auditcore_service.gateway.dashboard.commands import curl_of
from auditcore_service.gateway.dashboard.job_views import view_of
from auditcore_service.gateway.dashboard.model_families import families_of
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS, not_kept
from auditcore_service.gateway.dashboard.page_route import SEE_OTHER, PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.audits import report as report_of_api
from auditcore_service.gateway.routes.evidence import get as evidence_of_api
from auditcore_service.gateway.routes.principals import Auditor, Reader, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.service import Service
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.principals import Principal
from auditcore_service.store.audit_filters import AuditFilter
from auditcore_service.store.records import Audit

router = APIRouter(prefix="/ui/audits", route_class=PageRoute, include_in_schema=False)

COLUMNS: Final = 4
"""Numbers with their intervals that fit side by side."""

OTHERS: Final = 30
"""Audits that are offered for a comparison."""

_FORMS: Final = {
    "json": ("application/json", "json"),
    "junit": ("application/junit+xml", "xml"),
    "markdown": ("text/markdown", "md"),
}
"""Form of a report in an address -> media type and ending of the file."""


@router.get("/{audit_id}")
def show(request: Request, audit_id: str, service: ServiceDep, principal: Reader) -> Response:
    """Progress while it is under way, the reason if it failed, the verdict and what decided it if it is done."""
    audit = service.audits.get(principal, audit_id)
    document = json.loads(audit.request)
    report = read_report(service.audits.report(principal, audit_id)) if audit.report_digest else None
    others = _others(service, principal, audit) if report else []
    now = time.time()
    return page(
        request,
        "audit.html",
        view=view_of(audit, now=now),
        others=[view_of(other, now=now) for other in others],
        repeated=document,
        command=curl_of(document, request),
        signed=service.evidence.active_key_id is not None,
        **({"report": None} if report is None else findings_of(report)),
    )


def _others(service: Service, principal: Principal, audit: Audit) -> list[Audit]:
    """Finished audits to compare an audit with: those of versions of its models first, then the newest."""
    own = set(families_of(json.loads(audit.request)))
    found, _ = service.audits.page(principal, cursor=None, limit=OTHERS, wanted=AuditFilter(state="succeeded"))
    others = [one for one in found if one.id != audit.id]
    return sorted(others, key=lambda one: own.isdisjoint(families_of(json.loads(one.request))))


def findings_of(report: AuditReport) -> dict[str, Any]:
    """What the page shows of a report."""
    columns = summary_columns(report)
    return {
        "report": report,
        "decision": decision_sentence(report),
        "conditions": [
            {
                "outcome": outcome,
                "result": result_name(outcome),
                "wanted": wanted_text(outcome),
                "judged": judged_value(outcome),
            }
            for outcome in report.conditions
        ],
        "columns": columns,
        "tables": [_wide(table, report) for table in summary_tables(columns, COLUMNS)],
        "rows": summary_rows(report),
    }


def _wide(table: SummaryTable, report: AuditReport) -> dict[str, Any]:
    columns = summary_columns(report)
    return {
        "title": table.title,
        "positions": table.positions,
        "headings": [(table.heading(columns[one]), columns[one]) for one in table.positions],
    }


@router.get("/{audit_id}/report")
def report_page(audit_id: str, service: ServiceDep, principal: Reader) -> Response:
    """The report as a page, with the content security policy that GET /v1/audits/{audit_id}/report gives it."""
    return not_kept(report_of_api(audit_id, service, principal, accept="text/html"))


@router.get("/{audit_id}/evidence")
def evidence(audit_id: str, service: ServiceDep, principal: Reader) -> Response:
    """The signed evidence as a file."""
    return _as_file(evidence_of_api(audit_id, service, principal), f"evidence-{audit_id}.json")


@router.get("/{audit_id}/report.{form}")
def report_file(audit_id: str, form: str, service: ServiceDep, principal: Reader) -> Response:
    """The report as a file: `json`, `junit` or `markdown`."""
    media_type, ending = _FORMS.get(form, (form, form))
    answer = report_of_api(audit_id, service, principal, accept=media_type)
    return _as_file(answer, f"report-{audit_id}.{ending}")


@router.post("/{audit_id}/cancel")
async def cancel(
    audit_id: str,
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
    back: Annotated[str, Query()] = "",
) -> Response:
    """Ask it to stop, and go back to the page, or to the list if that is where the button was."""
    audit = await in_thread(threads.urgent, service.audits.cancel, principal, audit_id)
    place = "/ui/audits" if back == "list" else f"/ui/audits/{audit.id}"
    return RedirectResponse(place, SEE_OTHER, headers=PAGE_HEADERS)


@router.post("/{audit_id}/replay")
async def replay(audit_id: str, service: ServiceDep, threads: ThreadsDep, principal: Auditor) -> Response:
    """Submit its request again, with its models as they were pinned."""
    started = await in_thread(threads.slow, service.replays.start, principal, audit_id)
    return RedirectResponse(f"/ui/audits/{started.id}", SEE_OTHER, headers=PAGE_HEADERS)


@router.post("/{audit_id}/delete")
def delete(audit_id: str, service: ServiceDep, principal: Remover) -> Response:
    """Delete it as DELETE /v1/audits/{audit_id} does."""
    service.deletions.audit(principal, audit_id)
    return RedirectResponse("/ui/audits", SEE_OTHER, headers=PAGE_HEADERS)


def _as_file(answer: Response, name: str) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return not_kept(answer)
