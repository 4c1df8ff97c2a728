"""Prometheus metrics. Labels are states and routes, never identifiers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http import HTTPMethod
from typing import final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditcore_service.queue.shard_queue import QUEUES, QueueUnavailable, ShardQueue
from auditcore_service.store.audits import count_audits
from auditcore_service.store.database import Database
from auditcore_service.store.shards import count_shards, oldest_queued
from auditcore_service.store.webhook_deliveries import count_deliveries

log = structlog.get_logger(__name__)

_METHODS = frozenset(HTTPMethod)


@final
class Telemetry:
    """The metrics of one gateway, in a registry of its own."""

    def __init__(self, *, database: Database, queue: ShardQueue, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "auditcore_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "auditcore_http_request_seconds", "Time to answer.", ("method", "route"), registry=self.registry
        )
        self.registry.register(_Work(database, queue, clock))

    def exposition(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)


@final
class _Work(Collector):
    """A collector that reads the database at every scrape, so that every gateway reports the same values."""

    def __init__(self, database: Database, queue: ShardQueue, clock: Callable[[], float]) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock

    def describe(self) -> Iterator[Metric]:
        """Return no metrics in advance."""
        # registering must not read the database
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield jobs, shards and events for webhooks by state, the longest wait, and depths of queues."""
        try:
            with self._database.reading() as connection:
                audits, shards = count_audits(connection), count_shards(connection)
                trainings = count_audits(connection, kind="training")
                experiments = count_audits(connection, kind="experiment")
                oldest = oldest_queued(connection)
                deliveries = count_deliveries(connection)
        except SQLAlchemyError:
            log.exception("metrics_without_database")
        else:
            yield _by("auditcore_audits", "Audits by state.", "state", audits)
            yield _by("auditcore_trainings", "Trainings by state.", "state", trainings)
            yield _by("auditcore_experiments", "Experiments by state.", "state", experiments)
            yield _by("auditcore_shards", "Shards by state.", "state", shards)
            yield _by("auditcore_webhook_deliveries", "Events for webhooks by state.", "state", deliveries)
            age = 0.0 if oldest is None else max(0.0, self._clock() - oldest)
            yield GaugeMetricFamily("auditcore_oldest_queued_shard_seconds", "Longest wait of a shard.", value=age)
        try:
            depths: dict[str, int] = {name: self._queue.depth(name) for name in sorted(set(QUEUES.values()))}
        except QueueUnavailable:
            log.warning("metrics_without_queue")
        else:
            yield _by("auditcore_queue_depth", "Shards waiting by queue.", "queue", depths)


def _by(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in sorted(values.items()):
        gauge.add_metric((key,), value)
    return gauge


@final
class CountRequests:
    """ASGI middleware that counts and times requests by route."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and count and time its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            # the route's template, not the path: paths contain identifiers, and clients may send any path and method
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.telemetry.requests.labels(method, route, str(status)).inc()
            self.telemetry.seconds.labels(method, route).observe(time.perf_counter() - started)
