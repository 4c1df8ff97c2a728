"""`/ui/keys`: API keys of the tenant. A secret is shown once, in the answer to the form that made it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from auditcore_service.gateway.api_key_bodies import NewApiKey
from auditcore_service.gateway.dashboard.audit_form import checked_document
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.page_route import ANSWERED, SEE_OTHER, PageRoute, problem_and_headers
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.principals import KeyAdministrator
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.service import Service
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.principals import SCOPES, Principal
from auditcore_service.store.api_keys import ApiKey
from auditcore_service.use_cases.api_key_secrets import PREFIX
from auditcore_service.use_cases.api_keys import GRACE_S

router = APIRouter(prefix="/ui/keys", route_class=PageRoute, include_in_schema=False)

ON_A_PAGE: Final = 50

LIFETIMES_DAYS: Final = (30, 90, 365)
"""Lifetimes that the form offers, in days; a key without an end is offered too."""

_DAY_S: Final = 86_400


@router.get("")
def show(
    request: Request,
    service: ServiceDep,
    principal: KeyAdministrator,
    cursor: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    """Keys, newest first, and the form for a new one."""
    return _keys_page(request, service, principal, cursor=cursor)


@router.post("")
async def create(request: Request, service: ServiceDep, threads: ThreadsDep, principal: KeyAdministrator) -> Response:
    """Make a key and show its secret. It is in this answer only; to load the page again asks for another key."""
    async with request.form(max_files=0, max_fields=len(SCOPES) + 4) as sent:
        given = {"name": str(sent.get("name", "")), "scopes": [str(one) for one in sent.getlist("scopes")]}
        days = str(sent.get("days", ""))
    ends = datetime.fromtimestamp(time.time() + int(days) * _DAY_S, tz=UTC) if days.isdecimal() else None
    try:
        body = checked_document(NewApiKey, given | {"expires_at": ends})
        key, secret = await in_thread(
            threads.urgent,
            service.api_keys.create,
            principal,
            name=body.name,
            scopes=body.scopes,
            expires_at=None if body.expires_at is None else body.expires_at.timestamp(),
        )
    except ANSWERED as error:
        problem, _ = problem_and_headers(request, error)
        mistakes = [one.detail for one in problem.errors] or [problem.detail]
        return await in_thread(
            threads.urgent,
            _keys_page,
            request,
            service,
            principal,
            status=problem.status,
            mistakes=mistakes,
            given=given,
        )
    return _secret_page(request, key, secret, HTTPStatus.CREATED)


@router.post("/{key_id}/rotate")
def rotate(request: Request, key_id: str, service: ServiceDep, principal: KeyAdministrator) -> Response:
    """Give a key another secret and show it; the one before is accepted for another day."""
    key, secret = service.api_keys.rotate(principal, key_id, grace_s=GRACE_S)
    return _secret_page(request, key, secret, HTTPStatus.OK)


@router.post("/{key_id}/revoke")
def revoke(key_id: str, service: ServiceDep, principal: KeyAdministrator) -> Response:
    """End a key at once and for good."""
    service.api_keys.revoke(principal, key_id)
    return RedirectResponse("/ui/keys", SEE_OTHER, headers=PAGE_HEADERS)


def _keys_page(
    request: Request,
    service: Service,
    principal: Principal,
    *,
    cursor: str = "",
    status: int = HTTPStatus.OK,
    mistakes: list[str] | None = None,
    given: dict[str, Any] | None = None,
) -> Response:
    found, following = service.api_keys.page(principal, cursor=cursor or None, limit=ON_A_PAGE)
    return page(
        request,
        "keys.html",
        status=status,
        keys=found,
        following=following,
        prefix=PREFIX,
        scopes={scope: text for scope, text in SCOPES.items() if scope in principal.scopes},
        lifetimes=LIFETIMES_DAYS,
        mistakes=mistakes or [],
        given=given or {"name": "", "scopes": []},
    )


def _secret_page(request: Request, key: ApiKey, secret: str, status: int) -> Response:
    return page(request, "secret.html", status=status, key=key, secret=secret)
