"""Finds out who sent a request before anything of it is read."""

from __future__ import annotations

import functools
from typing import Final, final

from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auditcore_service.gateway.outages import OUTAGE_ERRORS
from auditcore_service.gateway.problems import error_response
from auditcore_service.gateway.rate_limits import counted
from auditcore_service.gateway.thread_limits import in_thread
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import CredentialsInvalid, Refusal
from auditcore_service.use_cases.request_rates import RequestRates

PRINCIPAL: Final = "auditcore.principal"
"""Where the principal of a request is in its scope."""

_ANSWERED: Final[tuple[type[Exception], ...]] = (Refusal, *OUTAGE_ERRORS)

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

    def __init__(
        self, app: ASGIApp, *, authentication: Authentication, rates: RequestRates, threads: CapacityLimiter
    ) -> None:
        self.app = app
        self.authentication = authentication
        self.rates = rates
        self.threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of somebody known."""
        if scope["type"] != "http" or is_public(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            # looks into the database, or asks the issuer
            scope[PRINCIPAL] = await in_thread(
                self.threads, counted, request, self.rates, functools.partial(self._principal, request)
            )
        except _ANSWERED as error:
            await error_response(request, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _principal(self, request: Request) -> Principal:
        if not self.authentication.required:
            return ANONYMOUS
        given = request.headers.getlist("Authorization")
        if len(given) > 1:
            msg = f"the header Authorization is given {len(given)} times; send it once"
            raise CredentialsInvalid(msg)
        return self.authentication.principal(given[0] if given else None)
