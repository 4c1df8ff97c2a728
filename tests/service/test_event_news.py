"""Event streams share one look at the database."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from auditcore_service.gateway import event_news
from auditcore_service.gateway.event_news import EventNews


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that pytest can call."""

    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return run


class Events:
    """A list of events, and how often it was asked."""

    def __init__(self) -> None:
        self.audits: list[str] = ["old"] * 3
        self.looks = 0

    def newest(self) -> int:
        return len(self.audits)

    def after(self, number: int) -> tuple[frozenset[str], int]:
        self.looks += 1
        return frozenset(self.audits[number:]), len(self.audits)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_news, "POLL_S", 0.02)
    monkeypatch.setattr(event_news, "OVERLAP_EVENTS", 0)


@in_a_loop
async def test_only_streams_of_audits_with_news_are_woken() -> None:
    events = Events()
    news = EventNews(newest=events.newest, look=events.after)
    waiting = {name: asyncio.create_task(news.wait(name)) for name in ("changed", "quiet")}
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting.values())
    events.audits.append("changed")
    await asyncio.wait_for(waiting["changed"], 5)
    await asyncio.sleep(0.1)
    assert not waiting["quiet"].done()
    waiting["quiet"].cancel()


@in_a_loop
async def test_many_streams_need_one_look_and_none_needs_none() -> None:
    events = Events()
    news = EventNews(newest=events.newest, look=events.after)
    streams = [asyncio.create_task(news.wait(f"audit {number}")) for number in range(200)]
    began = time.monotonic()
    await asyncio.sleep(0.3)
    assert 1 <= events.looks <= (time.monotonic() - began) / 0.02 + 1
    for stream in streams:
        stream.cancel()
    await asyncio.sleep(0.1)
    looks = events.looks
    await asyncio.sleep(0.2)
    assert events.looks == looks


@in_a_loop
async def test_an_event_just_before_a_stream_waits_is_not_missed() -> None:
    events = Events()
    news = EventNews(newest=events.newest, look=events.after)
    other = asyncio.create_task(news.wait("another"))
    await asyncio.sleep(0.1)
    events.audits.append("changed")
    # several looks have passed over the event by the time its stream waits
    await asyncio.sleep(0.1)
    await asyncio.wait_for(news.wait("changed"), 5)
    other.cancel()


@in_a_loop
async def test_a_stream_looks_for_itself_when_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_news, "LONGEST_S", 0.2)

    def away(*_: object) -> int:
        raise ConnectionError

    def never(_: int) -> tuple[frozenset[str], int]:
        raise AssertionError

    news = EventNews(newest=away, look=never)
    await asyncio.wait_for(news.wait("an audit"), 5)
    # and the next one waits again
    await asyncio.wait_for(news.wait("an audit"), 5)
