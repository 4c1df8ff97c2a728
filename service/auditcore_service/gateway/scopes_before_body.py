"""Refuses a request whose principal lacks a scope before its body is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditcore_service.gateway.authenticate import PRINCIPAL
from auditcore_service.gateway.problems import forbidden
from auditcore_service.gateway.routes.principals import check_scopes
from auditcore_service.use_cases.refusals import ScopeMissing


@final
class ScopesBeforeBody:
    """ASGI middleware: looks at the scopes of the operation when its body is asked for.

    FastAPI reads and parses a body before it calls any dependency. Without this, a key that may only read could fill
    the disk of the gateway with uploads that are refused at the end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a `receive` that checks first."""
        if PRINCIPAL not in scope:
            await self.app(scope, receive, send)
            return

        async def permitted() -> Message:
            # only now, inside the application, is the route known
            route = scope.get("route")
            if isinstance(route, APIRoute):
                try:
                    check_scopes(scope[PRINCIPAL], dict.fromkeys(_needed(route.dependant)))
                except ScopeMissing as error:
                    raise forbidden(error) from error
            return await receive()

        await self.app(scope, permitted, send)


def _needed(dependant: Dependant) -> Iterator[str]:
    """Every scope that an operation or one of its dependencies declares."""
    yield from dependant.own_oauth_scopes or ()
    for inner in dependant.dependencies:
        yield from _needed(inner)
