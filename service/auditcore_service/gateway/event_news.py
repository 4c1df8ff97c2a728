"""Which audits have new events: one look at the database for all event streams of a gateway."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, final

import structlog
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

log = structlog.get_logger(__name__)

POLL_S = 0.5
"""How often the database is asked; workers store progress once a second."""

LONGEST_S = 10.0
"""A stream looks for itself this often, so that a deleted audit or a missed event ends no stream in silence."""

OVERLAP_S = 5.0
"""How far back each look goes. Transactions of several audits commit in another order than that of their numbers, and a
stream begins to wait a moment after it has read."""

OVERLAP_EVENTS = 100
"""The same for the first look."""


@final
class EventNews:
    """Wakes streams. The task that asks the database runs while a stream waits."""

    def __init__(self, *, newest: Callable[[], int], look: Callable[[int], tuple[frozenset[str], int]]) -> None:
        """Ask nothing yet.

        Args:
            newest: The number of the newest event.
            look: From the number of an event to the audits with later events, and the number of the newest event.
                Both are called in a thread.
        """
        self._newest = newest
        self._look = look
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def wait(self, audit_id: str) -> None:
        """Return once an audit may have new events, and after `LONGEST_S` at the latest."""
        woken = asyncio.Event()
        self._waiting[audit_id].add(woken)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_S):
                    await woken.wait()
        finally:
            self._waiting[audit_id].discard(woken)
            if not self._waiting[audit_id]:
                del self._waiting[audit_id]

    async def _run(self) -> None:
        try:
            newest = await run_in_threadpool(self._newest)
            seen = deque([(time.monotonic(), max(0, newest - OVERLAP_EVENTS))])
            while self._waiting:
                changed, newest = await run_in_threadpool(self._look, seen[0][1])
                for audit_id in changed & self._waiting.keys():
                    for woken in self._waiting[audit_id]:
                        woken.set()
                seen.append((time.monotonic(), newest))
                while len(seen) > 1 and seen[1][0] < time.monotonic() - OVERLAP_S:
                    seen.popleft()
                await asyncio.sleep(POLL_S)
        except Exception as error:  # noqa: BLE001 - streams then look for themselves, and meet the same error
            log.warning("event_news_interrupted", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(POLL_S)
        finally:
            self._task = None


async def _event_news(request: Request) -> EventNews:
    """What `create_app` attached. Asynchronous, since FastAPI would look this up in a thread."""
    news: EventNews = request.app.state.event_news
    return news


EventNewsDep = Annotated[EventNews, Depends(_event_news)]
