"""The class of the routes of pages: bodies are read with care, and errors are pages too."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, final
from urllib.parse import urlencode, urlsplit

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from auditcore.errors import AuditcoreError
from auditcore_service.gateway.credentials import COOKIE, SIGN_IN, UI, is_below_ui
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.outages import OUTAGE_ERRORS
from auditcore_service.gateway.problems import error_response
from auditcore_service.gateway.request_bodies import CheckedRequest
from auditcore_service.gateway.schemas import Problem
from auditcore_service.use_cases.refusals import CredentialsInvalid, CredentialsMissing, Refusal

ANSWERED: Final[tuple[type[Exception], ...]] = (
    AuditcoreError,
    Refusal,
    RequestValidationError,
    HTTPException,
    *OUTAGE_ERRORS,
)
"""Errors that have a page."""

SEE_OTHER: Final = 303


@final
class PageRoute(APIRoute):
    """A route of the dashboard."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that answers errors by pages."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            careful = CheckedRequest(request.scope, request.receive)
            try:
                return await handler(careful)
            except ANSWERED as error:
                return refusal_page(careful, error)

        return answered


def problem_and_headers(request: Request, error: Exception) -> tuple[Problem, Mapping[str, str]]:
    """What the API answers to an error: the same code, words and places."""
    answer = error_response(request, error)
    kept = {name: value for name, value in answer.headers.items() if name in {"retry-after", "allow"}}
    return Problem.model_validate_json(bytes(answer.body)), kept


def refusal_page(request: Request, error: Exception) -> Response:
    """The page of an error."""
    problem, headers = problem_and_headers(request, error)
    answer = page(request, "refused.html", status=problem.status, problem=problem)
    answer.headers.update(headers)
    return answer


def refused(request: Request, error: Exception) -> Response:
    """The answer to somebody who is not let in: below `/ui` the way to the sign-in or a page, elsewhere a problem."""
    if not is_below_ui(request.url.path):
        return error_response(request, error)
    if not isinstance(error, CredentialsMissing | CredentialsInvalid):
        return refusal_page(request, error)
    ended = isinstance(error, CredentialsInvalid)
    asked = {"next": next_page(_wanted(request))} | ({"ended": "1"} if ended else {})
    answer: Response = RedirectResponse(f"{SIGN_IN}?{urlencode(asked)}", SEE_OTHER, headers=PAGE_HEADERS)
    if "HX-Request" in request.headers or "text/html" not in request.headers.get("Accept", "text/html"):
        # a script cannot follow to another page; it is told where the page is
        answer = error_response(request, error)
        answer.headers["HX-Redirect"] = f"{SIGN_IN}?{urlencode(asked)}"
    if ended:
        answer.delete_cookie(COOKIE, path=UI)
    return answer


def next_page(wanted: str | None) -> str:
    """Where to go after the sign-in: a page of the dashboard, and nothing else, whatever an address asks for."""
    if wanted is None or "\\" in wanted or not wanted.isprintable():
        return UI
    parts = urlsplit(wanted)
    if parts.scheme or parts.netloc or not is_below_ui(parts.path) or ".." in parts.path or parts.path == SIGN_IN:
        return UI
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _wanted(request: Request) -> str:
    """The page that was asked for; what only a form can ask for leads to the beginning."""
    if request.method not in {"GET", "HEAD"}:
        return UI
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
