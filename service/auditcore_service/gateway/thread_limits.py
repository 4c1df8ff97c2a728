"""How many threads each kind of work may hold, so that slow work never keeps quick work waiting.

Routes without `async` share the 40 threads of the framework. They read the database and the blob store. What waits for
others or must not wait has threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar, final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Request

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")

URGENT_THREADS = 8
"""For credentials and for `cancel`: each takes milliseconds."""

SLOW_THREADS = 24
"""For what asks registries, model servers and object stores, or handles large uploads: each may take half a minute."""


@final
class Threads:
    """The threads of one gateway.

    Attributes:
        urgent: For work that takes milliseconds and must not wait for other work.
        slow: For work that may wait for other services, or reads and writes large files.
    """

    def __init__(self) -> None:
        self.urgent = CapacityLimiter(URGENT_THREADS)
        self.slow = CapacityLimiter(SLOW_THREADS)


async def in_thread(
    limiter: CapacityLimiter, function: Callable[_Given, _Found], *args: _Given.args, **kwargs: _Given.kwargs
) -> _Found:
    """Call a function in a thread, as soon as the limiter has one."""
    return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=limiter)


async def _threads(request: Request) -> Threads:
    """The threads that `create_app` attached. Asynchronous, since FastAPI would look this up in a thread."""
    threads: Threads = request.app.state.threads
    return threads


ThreadsDep = Annotated[Threads, Depends(_threads)]
