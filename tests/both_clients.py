"""The two clients behind one face, so that one test runs with both."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from anyio.from_thread import BlockingPortal, start_blocking_portal

from auditcore.client import AsyncClient, Client

Kind = Literal["blocking", "asynchronous"]
KINDS: tuple[Kind, ...] = ("blocking", "asynchronous")


class Awaited:
    """An `AsyncClient` on an event loop in another thread, called like a `Client`."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **kwargs: self._items(found(*args, **kwargs))
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(args: Any, kwargs: Any) -> Any:
            return await found(*args, **kwargs)

        return lambda *args, **kwargs: self._portal.call(call, args, kwargs)

    def _items(self, items: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._portal.call(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(items.aclose)


@contextmanager
def client_of(kind: Kind, url: str, **options: Any) -> Iterator[Any]:
    """A client of a kind."""
    if kind == "blocking":
        with Client(url, **options) as client:
            yield client
        return
    with start_blocking_portal() as portal:
        client_of_loop = AsyncClient(url, **options)
        try:
            yield Awaited(portal, client_of_loop)
        finally:
            portal.call(client_of_loop.close)
