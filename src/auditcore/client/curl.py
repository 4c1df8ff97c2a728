"""A call as a curl command that does the same, to show and to copy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from auditcore.client.calls import Call

T = TypeVar("T")

CREDENTIALS = '-H "Authorization: Bearer $AUDIT_TOKEN"'
"""What a curl command needs for a service with authentication; the shell fills it in, so that it is never shown."""

_SHOWN_HEADERS = ("Accept",)


def curl_command(call: Call[T], url: str, *, credentials: bool) -> str:
    """The curl command of a call.

    Args:
        call: The call.
        url: Address of the service, without a slash at its end.
        credentials: Whether requests carry a token.
    """
    parts = ["curl"]
    if credentials:
        parts.append(CREDENTIALS)
    if call.method == "DELETE" or (call.method == "POST" and call.body is None and call.form is None):
        parts.append(f"-X {call.method}")
    # JSON is what a service answers without being asked
    accepted = {name: call.headers[name] for name in _SHOWN_HEADERS if name in call.headers}
    parts += [f"-H '{name}: {value}'" for name, value in accepted.items() if value != "application/json"]
    if call.body is not None:
        parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(call.body)}"]
    if call.form is not None:
        for field, file in call.form.files:
            place = str(file.content) if isinstance(file.content, Path) else file.name
            parts.append(f"-F {field}=@{shlex.quote(place)}")
        # --form-string: boxes hold characters that -F gives a meaning
        parts += [f"--form-string {shlex.quote(f'{name}={text}')}" for name, text in call.form.texts.items()]
    address = f"{url}{call.path}" + (f"?{urlencode(call.query)}" if call.query else "")
    parts.append(shlex.quote(address) if call.query else address)
    return " ".join(parts)
