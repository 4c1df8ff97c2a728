"""`/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from auditcore_service.gateway.problem_responses import problem_example, problem_responses
from auditcore_service.gateway.problems import problem
from auditcore_service.gateway.routes.principals import MetricsReader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import Health, ProblemError

router = APIRouter(tags=["operations"])


def _unavailable(broken: Mapping[str, str]) -> str:
    found = "; ".join(f"{name}: {fault}" for name, fault in broken.items())
    return f"{found}; try again later, and if it keeps failing, tell the operator"


@router.get("/livez", operation_id="getLiveness", summary="Whether this process answers")
async def livez() -> Health:
    """Needs nothing else, not even a free thread, so that a broken database does not restart the gateway."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether database, queue and blobs answer",
    response_model=Health,
    responses=problem_responses(
        problem_example(503, "unavailable", _unavailable({"queue": "does not answer"}), pointer="#queue")
    ),
)
async def readyz(service: ServiceDep) -> Health | Response:
    """503 when one of them does not answer within some seconds, or cannot be written: a full or read-only disk.

    Workers are a metric, not a condition: audits wait for them.
    """
    faults = await service.readiness.faults()
    broken = {name: fault for name, fault in faults.items() if fault is not None}
    if broken:
        return problem(
            503,
            code="unavailable",
            detail=_unavailable(broken),
            instance="/readyz",
            found=[ProblemError(pointer=f"#{name}", detail=f"{name}: {fault}") for name, fault in broken.items()],
            headers={"Retry-After": "5"},
        )
    return Health(status="ok", checks=dict.fromkeys(faults, "ok"))


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics in Prometheus form",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: ServiceDep, _principal: MetricsReader) -> Response:
    """Audits, shards and events for webhooks by state, waiting time, queue depth, requests."""
    return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
