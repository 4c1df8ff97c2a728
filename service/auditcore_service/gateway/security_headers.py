"""What every answer tells browsers: what a page may load, who may embed it, and that files are what they say they are.

`Strict-Transport-Security` is left to the proxy that speaks TLS. An answer that sets one of these fields itself keeps
its own: the page of the documentation needs scripts of this service, the page of a report its own one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditcore.report.page.content_policy import SCRIPT_SOURCE
from auditcore_service.gateway.authenticate import is_public

_POLICY: Final = {
    "default-src": "'none'",
    # pages have their style and their pictures inside; only the page of a report has a script
    "style-src": "'unsafe-inline'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # a page that is opened from here has no rights of this origin, even if something got into it
    "sandbox": "allow-popups",
}

_REPORT_PAGE_POLICY: Final = {
    **_POLICY,
    # the one script of the page, by its hash
    "script-src": SCRIPT_SOURCE,
    # without `allow-same-origin`, so that the script has no rights of this origin; modals are the dialog for printing
    "sandbox": "allow-scripts allow-popups allow-modals",
}


def _policy_text(policy: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


REPORT_PAGE_HEADERS: Final[Mapping[str, str]] = {"Content-Security-Policy": _policy_text(_REPORT_PAGE_POLICY)}
"""Fields of an answer with the page of a report, which has one script. All other fields are those of every answer."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _policy_text(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Fields of every answer, also of one to an error."""

PRIVATE: Final = "private, no-cache"
"""`Cache-Control` of what only its tenant may see: no shared cache keeps it, and a browser asks each time."""


def complete(headers: MutableHeaders, scope: Scope) -> None:
    """Add to the fields of an answer what is missing.

    Args:
        headers: Fields of the answer.
        scope: Of the request.
    """
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if not is_public(scope["method"], scope["path"]):
        headers.setdefault("Cache-Control", PRIVATE)


@final
class SecurityHeaders:
    """ASGI middleware: completes every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and complete its answer."""

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                complete(MutableHeaders(scope=message), scope)
            await send(message)

        await self.app(scope, receive, completed if scope["type"] == "http" else send)
