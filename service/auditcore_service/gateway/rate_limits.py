"""Requests are counted where they are authenticated, and every answer says where the limits stand.

The fields are `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10 (September 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditcore_service.gateway.credentials import is_below_ui
from auditcore_service.gateway.problems import status_of_error
from auditcore_service.principals import Principal
from auditcore_service.use_cases.refusals import Refusal
from auditcore_service.use_cases.request_rates import WINDOW_S, Count, RequestRates

_COUNTS: Final = "auditcore.request_counts"
"""Where a request keeps its counts."""

UNAUTHENTICATED: Final = 401


def is_limited(path: str) -> bool:
    """Whether requests for a path count against the limits of a tenant.

    Health, metrics and documentation do not: who watches the service must see it when a tenant has reached its limit.
    """
    return (path.startswith("/v1/") and path != "/v1/keys") or is_below_ui(path)


def counted(
    request: Request, rates: RequestRates, authenticate: Callable[[], Principal], *, credentials: str | None
) -> Principal:
    """The principal of a request, which is counted.

    Args:
        request: A request.
        rates: Counts it.
        authenticate: Finds out who sent it, or refuses it.
        credentials: What the request shows; None if it shows nothing.

    Raises:
        TooManyRequests: Its tenant or principal sent too many requests, or its address too many wrong credentials.
        Refusal: That of `authenticate`.
    """
    address = None if request.client is None else request.client.host
    request.scope[_COUNTS] = failures = rates.failures(address, credentials)
    rates.check_failures(failures)
    request.scope[_COUNTS] = ()
    try:
        principal = authenticate()
    except Refusal as refusal:
        if status_of_error(refusal) == UNAUTHENTICATED:
            request.scope[_COUNTS] = rates.fail(address, credentials)
        raise
    rates.accept(credentials)
    if is_limited(request.url.path):
        request.scope[_COUNTS] = counts = rates.count(principal)
        rates.check(principal, counts)
    return principal


@final
class RateLimitFields:
    """ASGI middleware: writes where the limits stand into every answer to a request that was counted."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and complete its answer."""

        async def completed(message: Message) -> None:
            counts: tuple[Count, ...] = scope.get(_COUNTS, ())
            if message["type"] == "http.response.start" and counts:
                MutableHeaders(scope=message).update(fields(counts))
            await send(message)

        await self.app(scope, receive, completed)


def fields(counts: Iterable[Count]) -> dict[str, str]:
    """Both fields, each a List of structured fields (RFC 9651) with an Item per policy."""
    return {
        "RateLimit-Policy": ", ".join(f'"{count.policy}";q={count.quota};w={WINDOW_S}' for count in counts),
        "RateLimit": ", ".join(f'"{count.policy}";r={count.remaining};t={count.reset_s}' for count in counts),
    }
