"""`OPTIONS`, `HEAD` and `Allow`: what RFC 9110 says of the methods of a path, which may belong to several routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ORDER: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@final
class Methods:
    """ASGI middleware: answers `OPTIONS`, answers `HEAD` as `GET` without its body, and completes `Allow`.

    The framework looks for one route at a time, so that its `Allow` lists the methods of the first.

    Attributes:
        routes: All routes of the application.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, unless it asks for the methods of a path."""
        if scope["type"] != "http" or not (allowed := self._allowed(scope)):
            await self.app(scope, receive, send)
            return
        allow = {"Allow": ", ".join(method for method in _ORDER if method in allowed)}
        if scope["method"] == "OPTIONS":
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._head(scope, send)
        else:

            async def completed(message: Message) -> None:
                if message.get("status") == HTTPStatus.METHOD_NOT_ALLOWED:
                    MutableHeaders(scope=message).update(allow)
                await send(message)

            await self.app(scope, receive, completed)

    async def _head(self, scope: Scope, send: Send) -> None:
        async def gone() -> Message:
            # nobody waits for the rest, such as the events of a stream
            return {"type": "http.disconnect"}

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # changed in place, since the parts around this one look into the scope for the route
        scope["method"] = "GET"
        try:
            await self.app(scope, gone, without_body)
        finally:
            scope["method"] = "HEAD"

    def _allowed(self, scope: Scope) -> frozenset[str]:
        """Methods of every route of a path; empty if there is none."""
        found = set[str]()
        for route in self.routes:
            match, _ = route.matches(scope)
            if match is not Match.NONE:
                found.update(getattr(route, "methods", None) or ())
        if "GET" in found:
            found.add("HEAD")
        if found:
            found.add("OPTIONS")
        return frozenset(found)
