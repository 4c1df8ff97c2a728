"""`/ui/static`: the style sheets and scripts of the dashboard, those of libraries as they were published."""

from __future__ import annotations

from importlib.resources import files
from typing import Final, Literal

from fastapi import APIRouter, Response

from auditcore_service.gateway.dashboard.page_headers import CONTENT_SECURITY_POLICY

router = APIRouter(prefix="/ui/static", include_in_schema=False)

_OWN: Final = "auditcore_service.gateway.dashboard"
_PLACES: Final = {
    "theme.css": ("auditcore.report.page", "theme.css"),
    "dashboard.css": (_OWN, "static/dashboard.css"),
    "dashboard.js": (_OWN, "static/dashboard.js"),
    "history.js": (_OWN, "static/history.js"),
    "htmx.min.js": (_OWN, "htmx/htmx.min.js"),
    "uPlot.iife.min.js": (_OWN, "uplot/uPlot.iife.min.js"),
    "uPlot.min.css": (_OWN, "uplot/uPlot.min.css"),
}
"""Name -> package and place in it. The first has the colors that the report page has too."""


@router.get("/{name}")
def asset(
    name: Literal[
        "theme.css",
        "dashboard.css",
        "dashboard.js",
        "history.js",
        "htmx.min.js",
        "uPlot.iife.min.js",
        "uPlot.min.css",
    ],
) -> Response:
    """A file; `SOURCE.json` beside those of libraries names version and digest."""
    package, place = _PLACES[name]
    return Response(
        files(package).joinpath(place).read_bytes(),
        media_type="text/css" if name.endswith(".css") else "text/javascript",
        headers={
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            # short, so that pages of a new release do not meet files of the old one for long
            "Cache-Control": "max-age=300",
        },
    )
