"""`/` and `/ui`: the way to the dashboard."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response
from starlette.responses import RedirectResponse

from auditcore_service.gateway.credentials import UI
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.page_route import SEE_OTHER, PageRoute

router = APIRouter(include_in_schema=False)
pages = APIRouter(prefix=UI, route_class=PageRoute, include_in_schema=False)


@router.get("/")
async def root(accept: Annotated[str, Header()] = "") -> Response:
    """Leads a browser, which asks for pages by name, to the dashboard. For programs there is nothing here."""
    if "text/html" not in accept.lower():
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return RedirectResponse(UI, SEE_OTHER, headers={"Vary": "Accept", "Cache-Control": "no-store"})


@pages.get("")
async def beginning() -> Response:
    """Leads to the list of audits."""
    return RedirectResponse(f"{UI}/audits", SEE_OTHER, headers=PAGE_HEADERS)
