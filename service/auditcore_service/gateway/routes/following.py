"""What the routes of all kinds of jobs share: tags in queries, streams of events, and what a job waits for."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, cast

from fastapi import Header
from fastapi.sse import ServerSentEvent
from pydantic import AfterValidator, StringConstraints
from starlette.concurrency import run_in_threadpool

from auditcore_service.gateway.event_news import EventNews
from auditcore_service.gateway.schemas import WaitingBody
from auditcore_service.store.records import Audit, Event
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.refusals import NotFound
from auditcore_service.waiting_reasons import MESSAGES, WaitingReason

RETRY_AFTER_S = 2
"""How long a client should wait before it asks again; half the shortest audit seen."""


def key_and_value(tag: str) -> tuple[str, str]:
    """The key and the value of a tag as a query writes it."""
    key, _, value = tag.partition(":")
    return key, value


def _is_tag(text: str) -> str:
    # databases do not accept null characters
    if not all(key_and_value(text)) or not text.isprintable():
        msg = "write a tag as `key:value`, such as `model:v7`"
        raise ValueError(msg)
    return text


TagQuery = Annotated[str, StringConstraints(max_length=264), AfterValidator(_is_tag)]
"""A tag as a list of audits takes it: `key:value`; the value may have further colons."""

_EVENT_ID = re.compile(r"[0-9]{1,18}")
"""Every number of this length fits the integers of the database."""


async def resume_after(
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
) -> int:
    """The event to resume after; 0, which is the beginning, if the header has no id of this service."""
    return int(last_event_id) if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id) else 0


async def stream_events(
    events_after: Callable[..., tuple[tuple[Event, ...], bool]], news: EventNews, job_id: str, after: int
) -> AsyncIterator[ServerSentEvent]:
    """Events of a job until the one that ends it. Asynchronous, so that a waiting reader holds no thread.

    Args:
        events_after: Events with an id above `after`, and whether they are the last ones.
        news: Wakes when there are new ones.
        job_id: Id of the audit, the training or the experiment.
        after: The event to begin after.
    """
    while True:
        try:
            found, ended = await run_in_threadpool(events_after, after=after)
        except NotFound:
            return
        for event in found:
            yield ServerSentEvent(id=str(event.id), event=event.kind, raw_data=event.data)
            after = event.id
            if json.loads(event.data)["state"] in TERMINAL:
                return
        if ended and not found:
            return
        if not found:
            await news.wait(job_id)


def waiting_of(audit: Audit) -> WaitingBody | None:
    """What a job waits for; None if it does not have to, or has ended."""
    waiting = audit.waiting
    if waiting is None or audit.state in TERMINAL:
        return None
    # a worker of a newer release may know more reasons
    message = MESSAGES.get(cast("WaitingReason", waiting.reason), MESSAGES["retry"])
    return WaitingBody(reason=waiting.reason, message=message, until=rfc3339(waiting.until))
