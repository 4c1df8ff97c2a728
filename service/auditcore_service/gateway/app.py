"""The gateway: routes around a service. Imports no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from auditcore_service.gateway.authenticate import Authenticate
from auditcore_service.gateway.body_limit import BodyLimit
from auditcore_service.gateway.credentials import is_below_ui
from auditcore_service.gateway.dashboard import (
    audit_list,
    audit_page,
    comparison,
    health,
    history,
    keys,
    live_progress,
    new_audit,
    sign_in,
    start,
    static_files,
)
from auditcore_service.gateway.dashboard import experiments as experiment_pages
from auditcore_service.gateway.dashboard import policies as policy_pages
from auditcore_service.gateway.dashboard import trainings as training_pages
from auditcore_service.gateway.dashboard.page_route import refusal_page, refused
from auditcore_service.gateway.dashboard.report_digests import ReportDigests
from auditcore_service.gateway.event_news import EventNews
from auditcore_service.gateway.methods import Methods
from auditcore_service.gateway.openapi_document import openapi_document
from auditcore_service.gateway.other_sites import OtherSites
from auditcore_service.gateway.problem_responses import INTERNAL_ERROR, UNAVAILABLE, problem_responses
from auditcore_service.gateway.problems import error_response, install_problem_handlers, unexpected
from auditcore_service.gateway.query_parameters import known_parameters_only
from auditcore_service.gateway.rate_limits import RateLimitFields
from auditcore_service.gateway.routes import (
    api_keys,
    audits,
    catalogue,
    documentation,
    estimates,
    event_log,
    evidence,
    experiments,
    image_batches,
    maps,
    models,
    operations,
    policies,
    replays,
    trainings,
    usage,
    webhook_events,
    webhooks,
)
from auditcore_service.gateway.scopes_before_body import ScopesBeforeBody
from auditcore_service.gateway.security_headers import SecurityHeaders, complete
from auditcore_service.gateway.service import Service
from auditcore_service.gateway.stalled_bodies import StalledBodies
from auditcore_service.gateway.thread_limits import Threads
from auditcore_service.settings import Settings
from auditcore_service.telemetry import CountRequests

DESCRIPTION = """
Upload images (`POST /v1/image-batches`), submit an audit of a model on them (`POST /v1/audits`), wait until its `state`
is `succeeded` (`GET /v1/audits/{audit_id}`), and fetch the report (`GET /v1/audits/{audit_id}/report`) as JSON, HTML,
JUnit XML or Markdown. `POST /v1/trainings` trains a model, whose weights an audit then names.
`POST /v1/experiments` compares training methods, remedies a failed audit, or measures explainers by training again.
`GET /v1/catalogue` lists everything that a plan may name. Every error is RFC 9457 problem details with a stable `code`;
a query parameter that an operation does not have is one.
"""

TAGS = {
    "audits": "Submit, follow, cancel, read, find and delete audits, or ask for their price.",
    "trainings": "Train a model, follow it, and take report and weights.",
    "experiments": "Studies of training methods, remedies of failed audits, and measures that retrain.",
    "evidence": "Signed results, the keys that sign them, sign-offs and the event log.",
    "models": "What will run on a model.",
    "image batches": "Images, stored by content.",
    "maps": "Heat maps from elsewhere, to be audited like those of an explainer.",
    "policies": "Conditions for a pass, stored by content under a name and a version.",
    "webhooks": "Who is told when an audit starts or ends.",
    "catalogue": "Explainers, checks, augmentations, presets and metrics.",
    "usage": "What a tenant may use, and what it uses.",
    "api keys": "Who may ask, and for what.",
    "operations": "Health and metrics, for the operator.",
}

MULTIPART_OVERHEAD_BYTES = 2 * image_batches.ANNOTATION_BYTES + 4 * 2**20
"""Labels, boxes and the headers of a thousand parts, in addition to the bytes of the images."""

_API = (
    audits,
    evidence,
    event_log,
    replays,
    trainings,
    experiments,
    api_keys,
    estimates,
    models,
    image_batches,
    maps,
    policies,
    webhooks,
    catalogue,
    usage,
    operations,
    documentation,
)

_DASHBOARD = [
    start.router,
    start.pages,
    sign_in.router,
    static_files.router,
    # before the page of one audit, which would take `events` for an id
    live_progress.router,
    audit_list.router,
    audit_page.router,
    comparison.router,
    history.router,
    new_audit.router,
    policy_pages.router,
    training_pages.router,
    experiment_pages.router,
    keys.router,
    health.router,
]


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. Connections are opened when it starts."""
    service = Service.of(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    app = FastAPI(
        title="auditcore",
        version=version("auditcore"),
        summary="Audits the explanations of image classifiers.",
        description=DESCRIPTION,
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        contact={"name": "auditcore contributors"},
        servers=[{"url": "/", "description": "The service that this document comes from."}],
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        responses=problem_responses(INTERNAL_ERROR, UNAVAILABLE),
        dependencies=[Depends(known_parameters_only)],
        lifespan=lifespan,
        separate_input_output_schemas=False,
        # FastAPI's own pages load their scripts from the internet
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.threads = threads = Threads()
    app.state.event_news = EventNews(newest=service.audits.newest_event, look=service.audits.audits_with_events)
    app.state.report_digests = ReportDigests()
    # of its own, such as that of the OpenAPI document
    routes = list(app.routes)
    routers = [module.router for module in _API] + _DASHBOARD
    for router in routers:
        app.include_router(router)
        routes.extend(router.routes)
    app.webhooks.include_router(webhook_events.router)
    install_problem_handlers(app)

    def answer_to_fault(request: Request, error: Exception) -> Response:
        # the framework answers a fault outside of every middleware
        answer = unexpected(request, error)
        complete(answer.headers, request.scope)
        return answer

    def answer_without_route(request: Request, error: Exception) -> Response:
        # errors of routes of the dashboard are pages already; this is an address below /ui that none of them has
        return refusal_page(request, error) if is_below_ui(request.url.path) else error_response(request, error)

    app.add_exception_handler(Exception, answer_to_fault)
    app.add_exception_handler(HTTPException, answer_without_route)

    def body_limit(path: str) -> int:
        if path.startswith((image_batches.router.prefix, maps.router.prefix, new_audit.router.prefix)):
            return settings.batch_bytes + MULTIPART_OVERHEAD_BYTES
        return settings.request_bytes

    app.add_middleware(Methods, routes=routes)
    app.add_middleware(ScopesBeforeBody)
    app.add_middleware(BodyLimit, limit=body_limit)
    app.add_middleware(StalledBodies, stalled_s=settings.stalled_s)
    app.add_middleware(
        Authenticate,
        authentication=service.authentication,
        rates=service.rates,
        threads=threads.urgent,
        refused=refused,
    )
    app.add_middleware(RateLimitFields)
    app.add_middleware(OtherSites, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(CountRequests, telemetry=service.telemetry)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    return app
