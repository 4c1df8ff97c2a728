"""How requests reach a service: in this thread, or on an event loop. What they mean is known elsewhere.

Both senders have the same asynchronous methods. Those of the blocking one never wait for an event loop, so that a
coroutine that uses it runs from its beginning to its end in one step (`run_blocking`). This way, every operation is
written once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar, final

import httpx
from httpx_sse import EventSource, ServerSentEvent

T = TypeVar("T")


@final
class Stream:
    """A stream of server-sent events that has begun, or the answer in its place.

    Attributes:
        answer: Status and headers; the body only if `refused`.
        events: The events; empty if `refused`.
    """

    def __init__(self, answer: httpx.Response, events: AsyncIterator[ServerSentEvent]) -> None:
        self.answer = answer
        self.events = events


class Sender(Protocol):
    """Sends requests and waits."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, with its whole body."""
        ...

    def stream(self, request: httpx.Request) -> AbstractAsyncContextManager[Stream]:
        """The events that answer a request, as they come. The body of a refusal has been read."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@final
class BlockingSender:
    """Sends in this thread."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self._http = http
        self._sleep = sleep

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, with its whole body."""
        return self._http.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncGenerator[Stream, None]:
        """The events that answer a request, as they come. The body of a refusal has been read."""
        answer = self._http.send(request, stream=True)
        try:
            if not answer.is_success:
                answer.read()
            yield Stream(answer, self._events(answer))
        finally:
            answer.close()

    async def _events(self, answer: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        for event in EventSource(answer).iter_sse():
            yield event

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()


@final
class AsyncSender:
    """Sends on the event loop that runs, of asyncio or Trio."""

    def __init__(self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self._http = http
        self._sleep = sleep

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, with its whole body."""
        return await self._http.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncGenerator[Stream, None]:
        """The events that answer a request, as they come. The body of a refusal has been read."""
        answer = await self._http.send(request, stream=True)
        try:
            if not answer.is_success:
                await answer.aread()
            yield Stream(answer, EventSource(answer).aiter_sse())
        finally:
            await answer.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        if self._sleep is not None:
            await self._sleep(seconds)
            return
        import anyio  # noqa: PLC0415 - the blocking client needs no event loop

        await anyio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing but a `BlockingSender`.

    Raises:
        RuntimeError: It waits for an event loop, which would be a mistake of this package.
    """
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    coroutine.close()
    message = "a blocking call waited for an event loop"
    raise RuntimeError(message)


def iterate_blocking(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of an asynchronous generator that waits for nothing but a `BlockingSender`."""
    try:
        while True:
            try:
                item = run_blocking(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_blocking(items.aclose())
