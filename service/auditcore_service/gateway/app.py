"""The gateway: routes around a service. Imports no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from auditcore_service.gateway.body_limit import BodyLimit
from auditcore_service.gateway.openapi_document import openapi_document
from auditcore_service.gateway.problems import install_problem_handlers
from auditcore_service.gateway.routes import (
    audits,
    catalogue,
    documentation,
    estimates,
    image_batches,
    maps,
    models,
    operations,
)
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.telemetry import CountRequests

MULTIPART_OVERHEAD_BYTES = 2 * image_batches.ANNOTATION_BYTES + 4 * 2**20
"""Labels and boxes, and the headers of a thousand parts, on top of the images' own bytes."""


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
        lifespan=lifespan,
        separate_input_output_schemas=False,
        # FastAPI's own pages load their scripts from the internet
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for module in (audits, estimates, models, image_batches, maps, catalogue, operations, documentation):
        app.include_router(module.router)
    install_problem_handlers(app)

    def body_limit(path: str) -> int:
        if path.startswith((image_batches.router.prefix, maps.router.prefix)):
            return settings.batch_bytes + MULTIPART_OVERHEAD_BYTES
        return settings.request_bytes

    app.add_middleware(BodyLimit, limit=body_limit)
    app.add_middleware(CountRequests, telemetry=service.telemetry)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    return app
