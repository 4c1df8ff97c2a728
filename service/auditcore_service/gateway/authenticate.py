"""Finds out who sent a request before anything of it is read."""

from __future__ import annotations

from typing import Final, final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auditcore_service.gateway.problems import refusal_response
from auditcore_service.principals import ANONYMOUS
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import Refusal

PRINCIPAL: Final = "auditcore.principal"
"""Where the principal of a request is in its scope."""

_PUBLIC: Final = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/docs", "/v1/keys"})
_PUBLIC_FOLDER: Final = "/docs/"


def is_public(method: str, path: str) -> bool:
    """Whether a path answers everybody: health, documentation, and the public keys that verifiers need."""
    return method in {"GET", "HEAD"} and (path in _PUBLIC or path.startswith(_PUBLIC_FOLDER))


@final
class Authenticate:
    """ASGI middleware: refuses a request without valid credentials, and puts its principal into its scope.

    It knows no routes. So a route that forgets to ask who calls it still answers nobody unknown, and what a stranger
    sends is neither read nor validated.
    """

    def __init__(self, app: ASGIApp, *, authentication: Authentication) -> None:
        self.app = app
        self.authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of somebody known."""
        if scope["type"] != "http" or is_public(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        if not self.authentication.required:
            scope[PRINCIPAL] = ANONYMOUS
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            # looks into the database, or asks the issuer
            scope[PRINCIPAL] = await run_in_threadpool(
                self.authentication.principal, request.headers.get("Authorization")
            )
        except Refusal as error:
            await refusal_response(request, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)
