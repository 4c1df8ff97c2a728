"""How a route finds the service it belongs to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from auditcore_service.gateway.service import Service


async def service_of(request: Request) -> Service:
    """The service that `create_app` attached. Asynchronous, since FastAPI would look this up in a thread."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
