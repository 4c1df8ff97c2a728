"""Where a request shows its credentials: in `Authorization`, and below `/ui` also in the cookie of a sign-in.

The cookie counts for no other path. So a page of another site that makes a browser send a request to `/v1` sends no
credentials with it.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from auditcore_service.use_cases.refusals import CredentialsInvalid

UI: Final = "/ui"
"""Where the dashboard is."""

SIGN_IN: Final = f"{UI}/sign-in"

COOKIE: Final = "auditcore_sign_in"
"""Holds the API key or the token of somebody who has signed in."""


def is_below_ui(path: str) -> bool:
    """Whether a path belongs to the dashboard."""
    return path == UI or path.startswith(f"{UI}/")


def shown_credentials(request: Request) -> str | None:
    """What a request shows, in the form of the header `Authorization`; None if it shows nothing.

    Of a header that is given more than once, it is the first: `credentials_of` refuses the others.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        return header
    cookie = request.cookies.get(COOKIE) if is_below_ui(request.url.path) else None
    return f"Bearer {cookie}" if cookie else None


def credentials_of(request: Request) -> str | None:
    """The same, for authentication.

    Raises:
        CredentialsInvalid: The header is given more than once.
    """
    given = request.headers.getlist("Authorization")
    if len(given) > 1:
        msg = f"the header Authorization is given {len(given)} times; send it once"
        raise CredentialsInvalid(msg)
    return shown_credentials(request)
