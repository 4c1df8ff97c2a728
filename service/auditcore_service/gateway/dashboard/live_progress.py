"""Below `/ui/audits`, `/ui/trainings`, `/ui/experiments`: the events of the API, in one stream for all rows of a page.

A browser opens no more than six connections to a server that speaks HTTP/1.1, so that a stream of each row would leave
none for anything else.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from auditcore_service.gateway.dashboard.job_views import time_left
from auditcore_service.gateway.dashboard.page_route import PageRoute
from auditcore_service.gateway.dashboard.texts import span
from auditcore_service.gateway.event_news import EventNews, EventNewsDep
from auditcore_service.gateway.routes.following import stream_events
from auditcore_service.gateway.routes.principals import Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.principals import Principal
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.use_cases.jobs import Jobs
from auditcore_service.use_cases.refusals import NotFound

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)

MOST: Final = 20
"""Rows of a page."""

Ids = Annotated[list[str], Query(alias="id", min_length=1, max_length=MOST)]


def _known_audits(ids: Ids, service: ServiceDep, principal: Reader) -> tuple[str, ...]:
    """Refuse before the stream begins, while there is still a status to answer with."""
    return tuple(dict.fromkeys(service.audits.get(principal, one).id for one in ids))


def _known_trainings(ids: Ids, service: ServiceDep, principal: Reader) -> tuple[str, ...]:
    return tuple(dict.fromkeys(service.trainings.get(principal, one).id for one in ids))


def _known_experiments(ids: Ids, service: ServiceDep, principal: Reader) -> tuple[str, ...]:
    return tuple(dict.fromkeys(service.experiments.get(principal, one).id for one in ids))


@router.get("/audits/events", response_class=EventSourceResponse)
async def of_audits(
    ids: Annotated[tuple[str, ...], Depends(_known_audits)], service: ServiceDep, principal: Reader, news: EventNewsDep
) -> AsyncIterator[ServerSentEvent]:
    """Progress of these audits; ends when all of them have ended."""
    async for event in progress_of(service.audits, principal, ids, news):
        yield event


@router.get("/trainings/events", response_class=EventSourceResponse)
async def of_trainings(
    ids: Annotated[tuple[str, ...], Depends(_known_trainings)],
    service: ServiceDep,
    principal: Reader,
    news: EventNewsDep,
) -> AsyncIterator[ServerSentEvent]:
    """Progress of these trainings; ends when all of them have ended."""
    async for event in progress_of(service.trainings, principal, ids, news):
        yield event


@router.get("/experiments/events", response_class=EventSourceResponse)
async def of_experiments(
    ids: Annotated[tuple[str, ...], Depends(_known_experiments)],
    service: ServiceDep,
    principal: Reader,
    news: EventNewsDep,
) -> AsyncIterator[ServerSentEvent]:
    """Progress of these experiments; ends when all of them have ended."""
    async for event in progress_of(service.experiments, principal, ids, news):
        yield event


async def progress_of(
    jobs: Jobs, principal: Principal, ids: Sequence[str], news: EventNews
) -> AsyncIterator[ServerSentEvent]:
    """How far each of several jobs is, whenever one gets further.

    Args:
        jobs: The use cases of jobs of this kind.
        principal: Who asks.
        ids: Of the jobs.
        news: Wakes when there are new events.
    """
    arrived = asyncio.Queue[str | None]()

    async def follow(job_id: str) -> None:
        try:
            async for _ in stream_events(functools.partial(jobs.events, principal, job_id), news, job_id, 0):
                await arrived.put(job_id)
        finally:
            arrived.put_nowait(None)

    followers = [asyncio.create_task(follow(one)) for one in ids]
    try:
        open_streams = len(followers)
        while open_streams:
            waiting = [await arrived.get()]
            while not arrived.empty():
                waiting.append(arrived.get_nowait())
            open_streams -= waiting.count(None)
            # of several events, each job is told once, as it is now
            for job_id in sorted({one for one in waiting if one is not None}):
                told = await run_in_threadpool(_told, jobs, principal, job_id)
                if told is not None:
                    yield ServerSentEvent(event="progress", raw_data=told)
        yield ServerSentEvent(event="end", raw_data="{}")
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


def _told(jobs: Jobs, principal: Principal, job_id: str) -> str | None:
    """A job as it is now, in JSON; None if it was deleted."""
    try:
        job = jobs.get(principal, job_id)
    except NotFound:
        return None
    ended = job.state in TERMINAL
    left = None if ended else time_left(job, now=time.time())
    return json.dumps(
        {
            "id": job.id,
            "state": job.state,
            "fraction": job.progress.fraction,
            "left": None if left is None else span(left),
            "ended": ended,
        }
    )
