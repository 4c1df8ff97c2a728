"""`/ui/sign-in` and `/ui/sign-out`: an API key or a token is shown once, and a cookie carries it from then on."""

from __future__ import annotations

import functools
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse

from auditcore_service.gateway.credentials import COOKIE, SIGN_IN, UI
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.page_route import SEE_OTHER, PageRoute, next_page, problem_and_headers
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.rate_limits import counted
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.use_cases.refusals import CredentialsInvalid, Refusal

router = APIRouter(prefix=UI, route_class=PageRoute, include_in_schema=False)

LONGEST: Final = 3800
"""Characters of a key or token; browsers keep cookies of 4096 bytes, name and attributes included."""


@router.get("/sign-in")
def show(
    request: Request,
    service: ServiceDep,
    following: Annotated[str | None, Query(alias="next")] = None,
    ended: Annotated[str | None, Query()] = None,
) -> Response:
    """The form. In a service without authentication there is nothing to sign in to."""
    if not service.authentication.required:
        return RedirectResponse(next_page(following), SEE_OTHER, headers=PAGE_HEADERS)
    return page(
        request,
        "sign_in.html",
        following=next_page(following),
        ended=ended is not None,
        # a link from elsewhere comes without the cookie; the same page, asked for from here, comes with it
        again=request.headers.get("Sec-Fetch-Site") == "cross-site" and ended is None,
        problem=None,
    )


@router.post("/sign-in")
async def sign_in(request: Request, service: ServiceDep, threads: ThreadsDep) -> Response:
    """Checks the key or token as a request of the API is checked, wrong ones counted alike, and sets the cookie."""
    if not service.authentication.required:
        return RedirectResponse(UI, SEE_OTHER, headers=PAGE_HEADERS)
    async with request.form(max_files=0, max_fields=4) as form:
        secret = _text(form.get("key")).strip().removeprefix("Bearer ").strip()
        following = next_page(_text(form.get("next")))
    credentials = f"Bearer {secret}"
    try:
        if len(secret) > LONGEST or not secret.isascii() or not secret.isprintable() or set(secret) & set(' ";,\\'):
            msg = f"this is no API key and no token; paste one, of at most {LONGEST} characters"
            raise CredentialsInvalid(msg)
        check = functools.partial(service.authentication.principal, credentials)
        await in_thread(threads.urgent, counted, request, service.rates, check, credentials=credentials)
    except Refusal as error:
        problem, headers = problem_and_headers(request, error)
        refusal = page(
            request,
            "sign_in.html",
            status=problem.status,
            following=following,
            ended=False,
            again=False,
            problem=problem,
        )
        refusal.headers.update(headers)
        return refusal
    answer = RedirectResponse(following, SEE_OTHER, headers=PAGE_HEADERS)
    # no lifetime: it ends with the browser's session
    answer.set_cookie(COOKIE, secret, path=UI, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


@router.post("/sign-out")
async def sign_out() -> Response:
    """Deletes the cookie. The key stays valid until it is revoked."""
    answer = RedirectResponse(SIGN_IN, SEE_OTHER, headers=PAGE_HEADERS)
    answer.delete_cookie(COOKIE, path=UI)
    return answer


def _text(value: UploadFile | str | None) -> str:
    return value if isinstance(value, str) else ""
