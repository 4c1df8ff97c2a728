"""The address of a service."""

from __future__ import annotations

import os

import httpx

from auditcore.client.errors import InvalidArgument

URL_VARIABLE = "AUDIT_URL"
DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `auditcore serve` listens if it is not told otherwise."""


def service_url(given: str | None) -> str:
    """The address of a service without the slash at its end.

    Args:
        given: The address; that of AUDIT_URL, or of a service on this machine, if None.

    Raises:
        InvalidArgument: It is none.
    """
    url = os.environ.get(URL_VARIABLE, DEFAULT_URL) if given is None else given
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        message = f"the URL {url!r} is not one ({error}); write http://host:port"
        raise InvalidArgument(message) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        message = f"the URL {url!r} is not the address of a service; write http://host:port"
        raise InvalidArgument(message)
    if parsed.query or parsed.fragment:
        message = f"the URL {url!r} has a query or a fragment; write only http://host:port, or a prefix below it"
        raise InvalidArgument(message)
    return url.rstrip("/")
