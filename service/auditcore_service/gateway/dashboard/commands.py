"""The command that does with the API what a page does."""

from __future__ import annotations

import shlex
from typing import Any

from starlette.requests import Request

from auditcore_service.gateway.dashboard.texts import pretty_json
from auditcore_service.gateway.service import Service


def curl_of(document: dict[str, Any], request: Request) -> str:
    """The command that submits a request for an audit.

    The document stands between two lines `JSON`, where the shell changes nothing. JSON has no line breaks in its texts,
    so that no text can end it.

    Args:
        document: The request for an audit.
        request: That of the page; it says how this service is called, and whether it wants to know who asks.
    """
    service: Service = request.app.state.service
    known = ' -H "Authorization: Bearer $AUDIT_TOKEN"' if service.authentication.required else ""
    address = shlex.quote(f"{str(request.base_url).rstrip('/')}/v1/audits")
    return (
        f"curl -si{known} -H 'Content-Type: application/json' --data-binary @- \\\n"
        f"  {address} <<'JSON'\n{pretty_json(document)}\nJSON"
    )
