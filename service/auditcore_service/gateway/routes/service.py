"""How a route finds the service it belongs to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from auditcore_service.gateway.service import Service


def service_of(request: Request) -> Service:
    """The service that `create_app` attached."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
