"""Keeps web pages of other sites away from the dashboard, and from a service that asks nobody who they are.

A browser on the machine of such a service reaches it, and sends what any page tells it to send. With DNS rebinding, the
name of a site leads to 127.0.0.1, so the page even reads the answers. Its requests then name the site in `Host`.
"""

from __future__ import annotations

from typing import final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auditcore_service.gateway.credentials import is_below_ui
from auditcore_service.gateway.problems import error_response
from auditcore_service.settings import Settings, is_loopback
from auditcore_service.use_cases.refusals import CrossSiteRequest, HostUnknown, Refusal

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. No page of another site can read what they answer, since no header allows it."""

_ASKS_NOBODY = (
    "a web page of another site sent this request, and this service asks nobody who they are; send it from a program, "
    "or set AUDIT_AUTHENTICATION=required"
)
_NOT_FROM_UI = "a web page of another site sent this request; open the dashboard itself, at /ui, and do it there"


@final
class OtherSites:
    """ASGI middleware: refuses names in `Host` that are not of this service, and requests that other sites send.

    Where authentication is required, it looks only at requests that change something below `/ui`: no browser adds a
    bearer token by itself, but it adds the cookie of a sign-in.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._asks_nobody = settings.authentication == "none"
        self._hosts = frozenset({*settings.allowed_hosts, settings.host})
        # the operator who opens another address has said that something in front of it decides
        self._checks_hosts = is_loopback(settings.host) or bool(settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that no other site has caused."""
        if scope["type"] == "http":
            try:
                self._check(scope["method"], scope["path"], Headers(scope=scope))
            except Refusal as error:
                await error_response(Request(scope), error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        if self._asks_nobody:
            self._check_host(headers)
        elif not is_below_ui(path):
            return
        if method not in _SAFE and _is_from_elsewhere(headers):
            raise CrossSiteRequest(_ASKS_NOBODY if self._asks_nobody else _NOT_FROM_UI)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("Host")
        # every browser sends it; a program that speaks HTTP/1.0 may not
        if host is not None and self._checks_hosts and not self._is_own(host):
            msg = (
                f"{host[:80]!r} is not a name of this service; use localhost or its address, or ask the operator to "
                "add the name to AUDIT_ALLOWED_HOSTS"
            )
            raise HostUnknown(msg)

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        return name is not None and (name in self._hosts or is_loopback(name))


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that another origin sent a request; programs say nothing."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        # another port of this machine is the same site, but another program
        return site not in {"same-origin", "none"}
    origin = headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != headers.get("Host")


def _name(host: str) -> str | None:
    """The name or address in a header `Host`, without port; None if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # such as an incomplete IPv6 address
        return None
