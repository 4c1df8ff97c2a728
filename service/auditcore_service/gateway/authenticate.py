"""Finds out who sent a request before anything of it is read."""

from __future__ import annotations

import functools
from typing import Final, final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auditcore_service.gateway.problems import refusal_response
from auditcore_service.gateway.rate_limits import counted
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import Refusal
from auditcore_service.use_cases.request_rates import RequestRates

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
    sends is neither read nor validated. Nor is a request beyond a limit of its sender.
    """

    def __init__(self, app: ASGIApp, *, authentication: Authentication, rates: RequestRates) -> None:
        self.app = app
        self.authentication = authentication
        self.rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of somebody known."""
        if scope["type"] != "http" or is_public(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            # looks into the database, or asks the issuer
            scope[PRINCIPAL] = await run_in_threadpool(
                counted, request, self.rates, functools.partial(self._principal, request)
            )
        except Refusal as error:
            await refusal_response(request, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _principal(self, request: Request) -> Principal:
        if not self.authentication.required:
            return ANONYMOUS
        return self.authentication.principal(request.headers.get("Authorization"))
