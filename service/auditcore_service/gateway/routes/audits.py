"""`/v1/audits`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from auditcore.contracts.contract import Sha256
from auditcore.contracts.report import AuditReport, Verdict
from auditcore.contracts.request import AuditRequest
from auditcore.costs.cost_model import Estimate
from auditcore_service.gateway.credentials import UI
from auditcore_service.gateway.event_news import EventNewsDep
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    QUOTA_OF_AUDITS,
    TOO_MANY_REQUESTS,
    UNSAFE_REFERENCE,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.audit_examples import (
    AUDIT_ID,
    AUDIT_LINKS,
    BUDGET_ADVICE,
    DELETED_AUDIT,
    NO_AUDIT,
    NOT_READY,
    REPORT_LINKS,
    STATUS_EXAMPLE,
    SUBMIT_EXAMPLES,
)
from auditcore_service.gateway.routes.following import (
    RETRY_AFTER_S,
    resume_after,
    stream_events,
    waiting_of,
)
from auditcore_service.gateway.routes.immutable import IfNoneMatch, etag_of_digest, immutable
from auditcore_service.gateway.routes.job_filters import JobFilter
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import Auditor, Reader, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import (
    AuditLinks,
    AuditPage,
    AuditStatus,
    ErrorBody,
    ProgressBody,
)
from auditcore_service.gateway.security_headers import REPORT_PAGE_HEADERS
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.store.records import Audit
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.representations import (
    HTML,
    NOT_ACCEPTABLE,
    OF_FAILURES,
    etag_of,
    negotiate,
    render,
    render_failure,
)

router = APIRouter(prefix="/v1/audits", tags=["audits"], route_class=CheckedBodies)

AuditId = Annotated[str, Path(description="From the answer to POST /v1/audits.")]


@router.post(
    "",
    status_code=202,
    operation_id="submitAudit",
    summary="Submit an audit",
    responses={
        202: json_example(
            STATUS_EXAMPLE,
            headers={
                "Location": {"description": "The audit.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds to wait before asking.", "schema": {"type": "integer"}},
            },
            links=AUDIT_LINKS,
        ),
        **problem_responses(
            problem_example(
                400,
                "invalid_idempotency_key",
                "an Idempotency-Key is 1 to 255 printable ASCII characters, such as a UUID",
            ),
            problem_example(
                409,
                "request_in_flight",
                "the first request with this Idempotency-Key is still being answered; try again in a moment",
            ),
            CONTENT_TOO_LARGE,
            UNSAFE_REFERENCE,
            problem_example(422, "budget_exceeded", BUDGET_ADVICE, pointer="#/plan"),
            TOO_MANY_REQUESTS,
            QUOTA_OF_AUDITS,
        ),
    },
)
async def submit(
    request: Annotated[AuditRequest, Body(openapi_examples=SUBMIT_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key with the same body gives the same audit, for 24 hours."),
    ] = None,
) -> AuditStatus:
    """Check a request, store it and start the audit. Mistakes that show without the model are refused at once.

    The answer has an `estimate` of passes and seconds. Above the operator's budget the request is refused with the code
    `budget_exceeded` and nothing is stored. POST /v1/estimates returns only the price. Beyond a limit of your tenant
    the answer is 429; GET /v1/usage says what is left.
    """
    audit = await in_thread(threads.slow, service.audits.submit, principal, request, idempotency_key=idempotency_key)
    response.headers["Location"] = path_of(audit.id)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(audit)


@router.get(
    "",
    operation_id="listAudits",
    summary="List audits, newest first",
    responses={
        200: json_example({"items": [STATUS_EXAMPLE], "next_cursor": CURSOR_EXAMPLE}),
        **problem_responses(INVALID_CURSOR),
    },
)
def list_page(
    request: Request,
    response: Response,
    service: ServiceDep,
    principal: Reader,
    filtered: JobFilter,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most audits on the page.")] = 20,
    verdict: Annotated[Verdict | None, Query(description="Only audits whose report has this verdict.")] = None,
    model: Annotated[
        Sha256 | None,
        Query(
            description="Only audits of this model: the digest of the file that was pinned at submit, or that of the "
            "weights as loaded, which reports and evidence name."
        ),
    ] = None,
) -> AuditPage:
    """One page; follow `next_cursor`, or the Link header with rel=next. Every filter that is given must hold."""
    wanted = replace(filtered, verdict=verdict, model=model)
    audits, following = service.audits.page(principal, cursor=cursor, limit=limit, wanted=wanted)
    link_next_page(request, response, following)
    return AuditPage(items=tuple(status_of(audit) for audit in audits), next_cursor=following)


@router.get(
    "/{audit_id}",
    operation_id="getAudit",
    summary="Where an audit stands",
    responses={200: json_example(STATUS_EXAMPLE), **problem_responses(NO_AUDIT, DELETED_AUDIT)},
)
def get(audit_id: AuditId, response: Response, service: ServiceDep, principal: Reader) -> AuditStatus:
    """200 for an audit that exists, also if it failed; 410 for one that was deleted."""
    audit = service.audits.get(principal, audit_id)
    if audit.state not in TERMINAL:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(audit)


@router.delete(
    "/{audit_id}",
    status_code=204,
    operation_id="deleteAudit",
    summary="Delete an audit that has ended",
    responses=problem_responses(
        NO_AUDIT,
        DELETED_AUDIT,
        problem_example(
            409,
            "audit_under_way",
            f"audit {AUDIT_ID} is running; cancel it first with POST /v1/audits/{AUDIT_ID}/cancel",
        ),
    ),
)
def delete(audit_id: AuditId, service: ServiceDep, principal: Remover) -> None:
    """Report, pictures, results and events are gone. Evidence and event log stay, and the log says who deleted it.

    Files that nothing else uses are collected within hours.
    """
    service.deletions.audit(principal, audit_id)


@router.post(
    "/{audit_id}/cancel",
    status_code=202,
    operation_id="cancelAudit",
    summary="Ask an audit to stop",
    responses={202: json_example(STATUS_EXAMPLE), **problem_responses(NO_AUDIT, DELETED_AUDIT)},
)
async def cancel(audit_id: AuditId, service: ServiceDep, threads: ThreadsDep, principal: Auditor) -> AuditStatus:
    """Best effort. May be repeated; a finished audit stays as it is."""
    return status_of(await in_thread(threads.urgent, service.audits.cancel, principal, audit_id))


@router.get(
    "/{audit_id}/report",
    operation_id="getReport",
    summary="The report of a finished audit",
    response_class=Response,
    responses={
        200: {
            "model": AuditReport,
            "description": "JSON by default; `Accept` selects HTML for people, JUnit XML for CI, a summary in Markdown "
            "for a merge request, a fragment of a CycloneDX ML-BOM, or the `model-index` of a model card of the "
            "Hugging Face hub.",
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/junit+xml": {"schema": {"type": "string"}},
                "text/markdown": {"schema": {"type": "string"}},
                "application/vnd.cyclonedx+json": {"schema": {"type": "object"}},
                "application/yaml": {"schema": {"type": "string"}},
            },
            "links": REPORT_LINKS,
        },
        304: {"description": "The report is the one named in If-None-Match."},
        **problem_responses(
            NO_AUDIT,
            DELETED_AUDIT,
            NOT_READY,
            problem_example(406, "not_acceptable", NOT_ACCEPTABLE, pointer="#/Accept"),
        ),
    },
)
def report(
    audit_id: AuditId,
    service: ServiceDep,
    principal: Reader,
    accept: Annotated[str, Header(description="Form of the report; JSON by default.")] = "*/*",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """404 until there is one. It never changes: the ETag is the digest of its bytes.

    An audit that failed or was cancelled has no report. The other forms then say why: a page, a summary, and a test
    case with an `<error>`, so that a build server shows the reason. JSON is 404; the reason is the `error` of the
    audit.
    """
    media_type = negotiate(accept)
    failure = service.audits.failure(principal, audit_id) if media_type in OF_FAILURES else None
    if failure is None:
        content = render(
            service.audits.report(principal, audit_id), media_type, functools.partial(service.audits.picture, principal)
        )
    else:
        content = render_failure(failure, media_type)
    answer = immutable(
        lambda: content, etag=etag_of(content), media_type=media_type, if_none_match=if_none_match, vary="Accept"
    )
    if media_type == HTML and failure is None:
        # also with 304, whose fields replace those that a browser has kept
        answer.headers.update(REPORT_PAGE_HEADERS)
    return answer


@router.get(
    "/{audit_id}/artifacts/{digest}",
    operation_id="getArtifact",
    summary="A picture of a report",
    response_class=Response,
    responses={
        200: {
            "description": "A photo as the model sees it, or the maps of all explainers on it. PNG in reports of "
            "earlier versions.",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in ("image/webp", "image/png")
            },
        },
        304: {"description": "The picture is the one named in If-None-Match."},
        **problem_responses(NO_AUDIT, DELETED_AUDIT, NOT_READY),
    },
)
def artifact(
    audit_id: AuditId,
    digest: Annotated[str, Path(description="From `artifacts` of the report.")],
    service: ServiceDep,
    principal: Reader,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """404 for anything that this audit's report does not list. It never changes: the ETag is its digest."""
    found = service.audits.artifact(principal, audit_id, digest)
    return immutable(
        lambda: service.audits.picture(principal, found.digest),
        etag=etag_of_digest(found.digest),
        media_type=found.media_type,
        if_none_match=if_none_match,
    )


def _known_audit(audit_id: AuditId, service: ServiceDep, principal: Reader) -> str:
    """Refuse before the stream begins, while there is still a status to answer with."""
    return service.audits.get(principal, audit_id).id


@router.get(
    "/{audit_id}/events",
    operation_id="followAudit",
    summary="Progress as server-sent events",
    response_class=EventSourceResponse,
    responses=problem_responses(NO_AUDIT, DELETED_AUDIT),
)
async def events(
    audit_id: Annotated[str, Depends(_known_audit)],
    service: ServiceDep,
    principal: Reader,
    after: Annotated[int, Depends(resume_after)],
    news: EventNewsDep,
) -> AsyncIterator[ServerSentEvent]:
    """Ends after the event that ends the audit. Asynchronous, so that a waiting reader holds no thread."""
    found = functools.partial(service.audits.events, principal, audit_id)
    async for event in stream_events(found, news, audit_id, after):
        yield event


def path_of(audit_id: str) -> str:
    """Path of an audit."""
    return f"/v1/audits/{audit_id}"


def status_of(audit: Audit) -> AuditStatus:
    """Where an audit stands, as it is answered."""
    path = path_of(audit.id)
    failure = audit.failure
    return AuditStatus(
        id=audit.id,
        state=audit.state,
        progress=ProgressBody(done=audit.progress.done, total=audit.progress.total, failed=audit.progress.failed),
        fraction=audit.progress.fraction,
        images=audit.images,
        estimate=None if audit.estimate is None else Estimate.model_validate_json(audit.estimate),
        name=audit.name,
        tags=dict(audit.tags),
        verdict=audit.verdict,
        replay_of=audit.replay_of,
        error=None if failure is None else ErrorBody(code=failure.code, message=failure.message, field=failure.field),
        waiting_for=waiting_of(audit),
        created_at=rfc3339(audit.created_at),
        started_at=None if audit.started_at is None else rfc3339(audit.started_at),
        finished_at=None if audit.finished_at is None else rfc3339(audit.finished_at),
        links=AuditLinks(
            self=path,
            report=f"{path}/report",
            events=f"{path}/events",
            cancel=f"{path}/cancel",
            evidence=f"{path}/evidence",
            page=f"{UI}/audits/{audit.id}",
        ),
    )
