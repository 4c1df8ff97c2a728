"""How a route says who may call it, and learns who does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from auditcore_service.gateway.authenticate import PRINCIPAL
from auditcore_service.principals import Principal
from auditcore_service.use_cases.refusals import ScopeMissing

BEARER: Final = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="API key or JWT",
    description="An API key of this service, or a token of the OpenID Connect issuer that its operator has chosen. A "
    "service without authentication needs none.",
    # it only describes the header in the OpenAPI document; `Authenticate` reads it
    auto_error=False,
)


async def authenticated(
    request: Request, needed: SecurityScopes, _described: Annotated[object, Depends(BEARER)]
) -> Principal:
    """The principal of a request, if it has every scope that the route needs. Asynchronous, so that it needs no thread.

    Raises:
        ScopeMissing: It lacks one.
    """
    principal: Principal = request.scope[PRINCIPAL]
    check_scopes(principal, needed.scopes)
    return principal


def check_scopes(principal: Principal, needed: Iterable[str]) -> None:
    """Refuse a principal without every one of these scopes.

    Raises:
        ScopeMissing: It lacks one.
    """
    missing = [scope for scope in needed if scope not in principal.scopes]
    if missing:
        msg = (
            f"these credentials lack the scope {', '.join(missing)}, which this needs; use others, or ask for "
            "a key that has it"
        )
        raise ScopeMissing(msg, scopes=missing)


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
