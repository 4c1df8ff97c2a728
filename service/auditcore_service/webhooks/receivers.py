"""Which URLs may receive events: public ones behind `https:`, and what the operator allows by prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final
from urllib.parse import unquote

import httpx

from auditcore.errors import UnsafeReference
from auditcore.sources.addresses import Address, is_public, resolve

REMEDY = "ask the operator to allow it (AUDIT_WEBHOOK_PREFIXES)"

_PORTS = {"http": 80, "https": 443}


@final
class Receivers:
    """The rules of one service.

    Args:
        prefixes: URLs below these may be `http:` and inside the network; each ends in `/`.
    """

    def __init__(self, prefixes: Sequence[str] = ()) -> None:
        # in the form that a URL has when it is compared: without the port that its scheme implies
        self._prefixes = tuple(str(httpx.URL(prefix)) for prefix in prefixes)

    def check(self, text: str, *, field: str) -> httpx.URL:
        """Refuse a URL that may receive nothing, without touching the network.

        Raises:
            UnsafeReference: It is no URL, is not behind `https:`, or has credentials in it.
        """
        try:
            url = httpx.URL(text)
            url.raw_host.decode("ascii")
        except (httpx.InvalidURL, UnicodeError) as error:
            msg = f"{text!r} is not a URL ({error}); write https://host/path"
            raise UnsafeReference(msg, field=field) from error
        if not url.host or not text.isprintable():
            msg = f"{text!r} names no host; write https://host/path"
            raise UnsafeReference(msg, field=field)
        if url.port is not None and not 0 < url.port < 2**16:
            msg = f"{text!r} has a port that does not exist; write one from 1 to 65535, or none"
            raise UnsafeReference(msg, field=field)
        if url.userinfo:
            msg = "credentials inside a URL are refused; the signature shows that an event comes from here"
            raise UnsafeReference(msg, field=field)
        if url.fragment:
            msg = f"{text!r} has a fragment, which no request sends; remove what follows #"
            raise UnsafeReference(msg, field=field)
        if url.scheme != "https" and not self._is_allowed(url):
            msg = f"{text!r} is not behind https; write https://host/path, or {REMEDY}"
            raise UnsafeReference(msg, field=field)
        return url

    def resolve(self, url: httpx.URL, *, field: str) -> list[Address]:
        """Every address of the host of a checked URL.

        Raises:
            UnsafeReference: One of them is not public, and the operator has not allowed the URL.
            UnreachableResource: The host has no address.
        """
        allowed = self._is_allowed(url)
        return resolve(
            url.raw_host.decode("ascii"),
            url.port or _PORTS[url.scheme],
            field=field,
            allows=lambda address: allowed or is_public(address),
            remedy=REMEDY,
        )

    def _is_allowed(self, url: httpx.URL) -> bool:
        # the URL as it is sent: the host in small letters, and a path also where none is written
        sent = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"
        return sent.startswith(self._prefixes) and ".." not in unquote(url.path).split("/")
