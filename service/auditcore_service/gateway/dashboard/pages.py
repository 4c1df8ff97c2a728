"""Makes pages from templates. Every text of a request is escaped, since it may be hostile."""

from __future__ import annotations

import time
from functools import cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from auditcore_service.gateway.authenticate import PRINCIPAL
from auditcore_service.gateway.dashboard import texts
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.service import Service
from auditcore_service.principals import Principal, Scope
from auditcore_service.timestamps import rfc3339


class Entry(NamedTuple):
    """An entry of the navigation.

    Attributes:
        path: Where it leads.
        title: What it is called.
        scope: What somebody must be allowed to see it; None for everybody.
    """

    path: str
    title: str
    scope: Scope | None


NAVIGATION: Final = (
    Entry("/ui/audits", "Audits", "audits:read"),
    Entry("/ui/new", "New audit", "audits:write"),
    Entry("/ui/history", "History", "audits:read"),
    Entry("/ui/trainings", "Trainings", "audits:read"),
    Entry("/ui/experiments", "Experiments", "audits:read"),
    Entry("/ui/policies", "Policies", "audits:read"),
    Entry("/ui/keys", "Keys", "keys:admin"),
    Entry("/ui/health", "Health", None),
)


def page(request: Request, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:  # noqa: ANN401 - whatever a template needs
    """A page.

    Args:
        request: Whose answer it is; its principal decides what the page offers.
        template: Name of the template.
        status: HTTP status.
        values: What the template needs.
    """
    principal = cast("Principal | None", request.scope.get(PRINCIPAL))
    service: Service = request.app.state.service
    scopes: frozenset[Scope] = frozenset() if principal is None else principal.scopes
    text = (
        _environment()
        .get_template(template)
        .render(
            may=scopes,
            principal=principal,
            entries=[one for one in NAVIGATION if principal and (one.scope is None or one.scope in scopes)],
            path=request.url.path,
            signs_in=service.authentication.required,
            now=time.time(),
            **values,
        )
    )
    return HTMLResponse(text, status_code=status, headers=PAGE_HEADERS)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditcore_service.gateway.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        exact=texts.exact,
        span=texts.span,
        ago=texts.ago,
        size=texts.size,
        number=texts.number,
        interval=texts.interval,
        pretty_json=texts.pretty_json,
        rfc3339=rfc3339,
    )
    # the macros that all templates share, which blocks of other templates see only as a global
    environment.globals["marks"] = environment.get_template("marks.html").module
    return environment
