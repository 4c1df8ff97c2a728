"""How a route says who may call it, and learns who does."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request, Security
from fastapi.security import SecurityScopes

from auditcore_service.gateway.rate_limits import counted
from auditcore_service.gateway.routes.service import service_of
from auditcore_service.principals import Principal


def authenticated(request: Request, needed: SecurityScopes) -> Principal:
    """The principal of a request, if it has every scope that the route needs and sends not too many requests."""
    service = service_of(request)
    return counted(
        request,
        service.rates,
        lambda: service.authentication.principal(request.headers.get("Authorization"), needed.scopes),
    )


Caller = Annotated[Principal, Security(authenticated)]
"""Anybody with credentials; in a service without authentication, anybody."""

Reader = Annotated[Principal, Security(authenticated, scopes=["audits:read"])]
Auditor = Annotated[Principal, Security(authenticated, scopes=["audits:write"])]
Signer = Annotated[Principal, Security(authenticated, scopes=["audits:sign"])]
Remover = Annotated[Principal, Security(authenticated, scopes=["audits:delete"])]
PolicyWriter = Annotated[Principal, Security(authenticated, scopes=["policies:write"])]
WebhookWriter = Annotated[Principal, Security(authenticated, scopes=["webhooks:write"])]
LogReader = Annotated[Principal, Security(authenticated, scopes=["log:read"])]
MetricsReader = Annotated[Principal, Security(authenticated, scopes=["metrics:read"])]
KeyAdministrator = Annotated[Principal, Security(authenticated, scopes=["keys:admin"])]
