"""What every page of the dashboard tells browsers: scripts and styles come from files of this service only."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}

CONTENT_SECURITY_POLICY: Final = "; ".join(f"{name} {sources}" for name, sources in _POLICY.items())

PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # with `no-referrer`, a browser writes `Origin: null` into the forms of the dashboard itself
    "Referrer-Policy": "same-origin",
    # a page shows what only its tenant may see, and after a sign-out nothing of it
    "Cache-Control": "no-store",
}


def not_kept(answer: Response) -> Response:
    """An answer of the API for a browser that keeps nothing: after a sign-out, its cache shows nothing either."""
    answer.headers["Cache-Control"] = PAGE_HEADERS["Cache-Control"]
    return answer
