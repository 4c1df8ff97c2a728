"""The public keys of an OpenID Connect issuer, fetched when they are needed and kept for a while."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Final, final
from urllib.parse import urlsplit

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey

from auditcore_service.settings import is_loopback
from auditcore_service.use_cases.refusals import IssuerUnavailable

log = structlog.get_logger(__name__)

FRESH_S: Final = 600.0
"""Keys are fetched anew after this time. A key that the issuer withdraws is accepted no longer than this."""

STALE_S: Final = 24 * 3600.0
"""While the issuer does not answer, keys are used for this long."""

PAUSE_S: Final = 10.0
"""Least time between two fetches, however many unknown keys tokens name, and however often a fetch fails."""

TIMEOUT_S: Final = 5.0

LARGEST_BYTES: Final = 2**20
"""Of an answer of the issuer; the documents of large providers have some kilobytes."""


class IssuerFailing(Exception):
    """The issuer does not answer, or not with what OpenID Connect Discovery asks for."""


@final
class IssuerKeys:
    """The keys of one issuer. May be used by many threads.

    Redirects are not followed, and the addresses must be https unless they are of this machine: a program that answers
    in the issuer's place could sign every token.
    """

    def __init__(self, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._tried_at: float | None = None

    def find(self, key_id: str | None) -> KeySet:
        """The keys, fetched anew if they are old or have no key with this id.

        Args:
            key_id: What a token names; None if it names none.

        Raises:
            IssuerUnavailable: There are no keys, and none can be fetched.
        """
        # where there are keys, no request waits for a fetch that another one makes
        if self._wanted(key_id) and self._lock.acquire(blocking=self._keys is None):
            try:
                if self._wanted(key_id):
                    self._fetch()
            finally:
                self._lock.release()
        if self._keys is None or self._clock() - self._fetched_at > STALE_S:
            msg = f"the issuer {self._issuer} does not answer, so that no token can be checked; try again later"
            raise IssuerUnavailable(msg)
        return self._keys

    def _wanted(self, key_id: str | None) -> bool:
        """Whether keys have to be fetched now."""
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < PAUSE_S:
            # the answer of the last fetch, or that there is none, counts for a moment
            return False
        if self._keys is None or now - self._fetched_at > FRESH_S:
            return True
        return key_id is not None and all(key.kid != key_id for key in self._keys)

    def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            self._keys = self._fetched()
        except IssuerFailing as error:
            log.warning("issuer_keys_not_fetched", issuer=self._issuer, reason=str(error))
        else:
            self._fetched_at = self._tried_at

    def _fetched(self) -> KeySet:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
            found = _document(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                msg = f"the document is of another issuer: {str(found.get('issuer'))[:200]!r}"
                raise IssuerFailing(msg)
            address = found.get("jwks_uri")
            if not isinstance(address, str) or not _is_secure(address):
                msg = f"jwks_uri is no https address: {str(address)[:200]!r}"
                raise IssuerFailing(msg)
            listed = _document(client, address).get("keys")
        keys = [key for one in listed if (key := _public_key(one)) is not None] if isinstance(listed, list) else []
        if not keys:
            msg = f"{address} has no key that can verify a signature"
            raise IssuerFailing(msg)
        return KeySet(keys)


def _document(client: httpx.Client, url: str) -> dict[str, Any]:
    """The JSON object at an address.

    Raises:
        IssuerFailing: There is none.
    """
    content = bytearray()
    deadline = time.monotonic() + TIMEOUT_S
    try:
        with client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != httpx.codes.OK:
                msg = f"{url} answers with status {answer.status_code}"
                raise IssuerFailing(msg)
            for part in answer.iter_bytes():
                content += part
                if len(content) > LARGEST_BYTES or time.monotonic() > deadline:
                    msg = f"{url} answers more than {LARGEST_BYTES} bytes, or for more than {TIMEOUT_S:g} s"
                    raise IssuerFailing(msg)
        document = json.loads(content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        msg = f"{url} cannot be read: {error}"
        raise IssuerFailing(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{url} does not answer JSON"
        raise IssuerFailing(msg) from error
    if not isinstance(document, dict):
        msg = f"{url} does not answer a JSON object"
        raise IssuerFailing(msg)
    return document


def _is_secure(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _public_key(data: object) -> Key | None:
    """A key that verifies signatures; None for other ones, such as secrets, which an issuer must not publish."""
    try:
        key = JWKRegistry.import_key(data) if isinstance(data, dict) else None
    except (JoseError, ValueError, TypeError, KeyError):
        # one key that this library does not know must not hide the others
        return None
    usable = isinstance(key, RSAKey | ECKey | OKPKey) and key.get("use") in {None, "sig"}
    return key if usable else None
