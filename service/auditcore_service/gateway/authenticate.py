"""Finds out who sent a request before anything of it is read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, final

from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from auditcore_service.gateway.credentials import SIGN_IN, credentials_of, shown_credentials
from auditcore_service.gateway.outages import OUTAGE_ERRORS
from auditcore_service.gateway.rate_limits import counted
from auditcore_service.gateway.thread_limits import in_thread
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import Refusal
from auditcore_service.use_cases.request_rates import RequestRates

PRINCIPAL: Final = "auditcore.principal"
"""Where the principal of a request is in its scope."""

_ANSWERED: Final[tuple[type[Exception], ...]] = (Refusal, *OUTAGE_ERRORS)

_PUBLIC: Final = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/docs", "/v1/keys"})
_PUBLIC_FOLDERS: Final = ("/docs/", "/ui/static/")


def is_public(method: str, path: str) -> bool:
    """Whether a path answers everybody alike: health, documentation, and the public keys that verifiers need."""
    return method in {"GET", "HEAD"} and (path in _PUBLIC or path.startswith(_PUBLIC_FOLDERS))


@final
class Authenticate:
    """ASGI middleware: refuses a request without valid credentials, and puts its principal into its scope.

    It knows no routes. So a route that forgets to ask who calls it still answers nobody unknown, and what a stranger
    sends is neither read nor validated. Nor is a request beyond a limit of its sender.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authentication: Authentication,
        rates: RequestRates,
        threads: CapacityLimiter,
        refused: Callable[[Request, Exception], Response],
    ) -> None:
        self.app = app
        self.refused = refused
        self.authentication = authentication
        self.rates = rates
        self.threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of somebody known."""
        # the form of the sign-in is for those who are not known yet; its route looks at the credentials in it itself
        if scope["type"] != "http" or is_public(scope["method"], scope["path"]) or scope["path"] == SIGN_IN:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            # looks into the database, or asks the issuer
            scope[PRINCIPAL] = await in_thread(
                self.threads,
                counted,
                request,
                self.rates,
                functools.partial(self._principal, request),
                credentials=shown_credentials(request),
            )
        except _ANSWERED as error:
            await self.refused(request, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _principal(self, request: Request) -> Principal:
        if not self.authentication.required:
            return ANONYMOUS
        return self.authentication.principal(credentials_of(request))
