"""`/ui/health`: whether the service can work, what waits, and what the tenant uses of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from platform import python_version

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from auditcore.contracts.report import SCHEMA_VERSION
from auditcore_service.gateway.dashboard.page_route import PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.principals import Caller
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.routes.usage import get as usage_of_api
from auditcore_service.gateway.service import Service

router = APIRouter(prefix="/ui/health", route_class=PageRoute, include_in_schema=False)


@router.get("")
async def show(request: Request, service: ServiceDep, principal: Caller) -> Response:
    """What of it somebody sees follows from their scopes: the work of all tenants needs `metrics:read`."""
    faults = await service.readiness.faults()
    work = await run_in_threadpool(work_of, service) if "metrics:read" in principal.scopes else None
    usage = await run_in_threadpool(usage_of_api, principal, service) if "audits:read" in principal.scopes else None
    return await run_in_threadpool(
        page,
        request,
        "health.html",
        faults=faults,
        work=work,
        usage=usage,
        versions={
            "auditcore": version("auditcore"),
            "Schema of reports": SCHEMA_VERSION,
            "Python": python_version(),
        },
    )


def work_of(service: Service) -> Mapping[str, Mapping[str, float]]:
    """What waits and runs, from the metrics of the service: name of a metric -> state or queue -> number."""
    found: dict[str, dict[str, float]] = {}
    for metric in service.telemetry.registry.collect():
        if metric.type == "gauge":
            found[metric.name] = {next(iter(sample.labels.values()), ""): sample.value for sample in metric.samples}
    return found
