"""Connections that make no progress are closed, and there are only so many of them.

uvicorn has a limit for the pause between two requests of a connection, but none for a request whose head never ends,
nor for a client that does not read its answer. `StalledBodies` has the limit for bodies.
"""

from __future__ import annotations

import asyncio
import json
import resource
from http import HTTPStatus
from typing import Any, Final, final

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from auditcore_service.gateway.outages import RETRY_AFTER_S
from auditcore_service.gateway.problems import MEDIA_TYPE, problem_type

log = structlog.get_logger(__name__)

FILES_BESIDE: Final = 256
"""Open files of a gateway besides its connections: the database, uploads, the queue."""


def most_connections(wanted: int) -> int:
    """As many connections as are wanted, or as the limit on open files leaves; it is raised as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_BESIDE
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - FILES_BESIDE))


def protocol_with_limits(*, stalled_s: float, connections: int) -> type[H11Protocol]:
    """The class of a connection for `uvicorn.Config.http`, which takes no arguments for a protocol.

    Args:
        stalled_s: Longest time for the head of a request, and for a client that takes nothing of its answer, in
            seconds.
        connections: Most connections at the same time; further ones get 503.
    """

    @final
    class LimitedProtocol(_LimitedProtocol):
        stalled = stalled_s
        most = connections

    return LimitedProtocol


class _LimitedProtocol(H11Protocol):
    stalled: float
    most: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "too many connections; try again in some seconds"
            )
            return
        self._head = self.loop.call_later(self.stalled, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head is None and self._is_between_requests():
            self._head = self.loop.call_later(self.stalled, self._head_is_late)
        super().data_received(data)
        if not self._is_between_requests():
            _stop(self._head)
            self._head = None

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._head)
        _stop(self._reader)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self._reader or self.loop.call_later(self.stalled, self._answer_is_not_read)

    def resume_writing(self) -> None:
        _stop(self._reader)
        self._reader = None
        super().resume_writing()

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _head_is_late(self) -> None:
        log.info("connection_closed", reason="the head of a request is late", seconds=self.stalled)
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT, "request_timeout", f"the head of the request took more than {self.stalled:g} s"
        )

    def _answer_is_not_read(self) -> None:
        log.info("connection_closed", reason="an answer is not read", seconds=self.stalled)
        self.transport.abort()

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        """Answer without the application, which has not seen a request, and close the connection."""
        body = json.dumps(
            {"type": problem_type(code), "title": status.phrase, "status": status, "detail": detail, "code": code}
        ).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"Retry-After: {RETRY_AFTER_S}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
