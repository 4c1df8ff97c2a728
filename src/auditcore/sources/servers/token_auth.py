"""Bearer tokens: sent with each request, and read again from their file when the server refuses one."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from typing import final

import httpx

from auditcore.sources.servers.answers import BAD_REQUEST, REFUSED, is_refusal
from auditcore.sources.servers.tokens import TokenFile

MOST_REFUSAL_BYTES = 65_536
"""Bytes of a refusal that are read. An error repeats 200 characters of it."""


@final
class TokenAuth(httpx.Auth):
    """Sends the token of a file; all threads that ask one server share it.

    When the server refuses a request and the file holds another token by then, the request is sent a second time.
    """

    def __init__(self, file: TokenFile) -> None:
        """Read nothing yet."""
        self._file = file
        self._token: str | None = None
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to a request; see `httpx.Auth`.

        Raises:
            UnreachableResource: The file holds no token.
        """
        token = self._current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if _refused(response):
            newer = self._newer(token)
            if newer is not None:
                request.headers["Authorization"] = f"Bearer {newer}"
                yield request

    def _current(self) -> str:
        with self._lock:
            if self._token is None:
                self._token = self._file.read()
            return self._token

    def _newer(self, refused: str) -> str | None:
        """Another token than the refused one, or None; another thread may have read it already."""
        with self._lock:
            if self._token == refused:
                self._token = self._file.read()
            return None if self._token == refused else self._token


def _refused(response: httpx.Response) -> bool:
    """Whether the server wants another token; a body that has no end is cut off."""
    status = response.status_code
    if status != BAD_REQUEST and status not in REFUSED:
        return False
    assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - the client is not an asynchronous one
    # before a request is sent a second time, httpx reads the whole answer to the first
    response.stream = _Beginning(response.stream, response.request)
    return is_refusal(status, response.read() if status == BAD_REQUEST else b"")


@final
class _Beginning(httpx.SyncByteStream):
    """The first `MOST_REFUSAL_BYTES` of a body, as far as they arrive within the timeout of the request."""

    def __init__(self, whole: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._whole = whole
        self._request = request
        self._deadline = time.monotonic() + request.extensions["timeout"]["read"]

    def __iter__(self) -> Iterator[bytes]:
        left = MOST_REFUSAL_BYTES
        for piece in self._whole:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return
            # the timeout itself is for each piece; a server that sends slowly would never exceed it
            if time.monotonic() > self._deadline:
                msg = "the refusal took too long"
                raise httpx.ReadTimeout(msg, request=self._request)

    def close(self) -> None:
        self._whole.close()
