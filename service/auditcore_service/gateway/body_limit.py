"""Refuses a request body that is too large before it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditcore_service.gateway.problems import content_too_large


@final
class BodyLimit:
    """ASGI middleware: refuses a Content-Length that is too large, and counts the bytes of every body.

    Attributes:
        limit: From the path of a request to the most bytes its body may have.
    """

    def __init__(self, app: ASGIApp, *, limit: Callable[[str], int]) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limit(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"")
        too_large = declared.isdigit() and int(declared) > limit
        read = 0

        async def counted() -> Message:
            nonlocal read
            # raised where the body is read, inside the application, so that it is answered like every other error
            if too_large:
                raise content_too_large(limit)
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise content_too_large(limit)
            return message

        await self.app(scope, counted, send)
