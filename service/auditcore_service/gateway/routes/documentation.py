"""`/docs`: the interface in a browser, by Swagger UI, without a byte from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Final, Literal

from fastapi import APIRouter, Response

router = APIRouter(prefix="/docs", include_in_schema=False)

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    # Swagger UI draws its icons from data: URLs in its style sheet
    "img-src": "'self' data:",
    "style-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

CONTENT_SECURITY_POLICY: Final = "; ".join(f"{name} {sources}" for name, sources in _POLICY.items())
"""Scripts and styles come from this service only, and a request goes to this service only."""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>auditcore: HTTP interface</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="interface"><noscript>This page needs JavaScript; <a href="/openapi.json">the OpenAPI document</a> does not.
</noscript></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

START: Final = """"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
  // the badge would send the document to a server on the internet
  validatorUrl: null,
});
"""

_MEDIA_TYPES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_HEADERS: Final = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}


@router.get("")
def page() -> Response:
    """The page itself, which only names the files below."""
    return Response(PAGE, media_type="text/html", headers=_HEADERS)


@router.get("/start.js")
def start() -> Response:
    """Opens the service's own OpenAPI document. A file of its own, because the policy allows no script in the page."""
    return Response(START, media_type="text/javascript", headers=_HEADERS)


@router.get("/{name}")
def asset(name: Literal["swagger-ui-bundle.js", "swagger-ui.css"]) -> Response:
    """A file of Swagger UI as it was published; `swagger_ui/SOURCE.json` names version and digest."""
    content = files("auditcore_service.gateway").joinpath("swagger_ui", name).read_bytes()
    return Response(content, media_type=_MEDIA_TYPES[name], headers={**_HEADERS, "Cache-Control": "max-age=3600"})
