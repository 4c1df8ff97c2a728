"""Sends what is in the outbox. Several senders may run at once: each delivery is claimed by one of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import final

import httpx
import structlog

from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.webhooks.attempts import MOST_AT_ONCE, Attempt, Attempts
from auditcore_service.webhooks.posting import WHOLE_S, Answer, NotSent, Poster
from auditcore_service.webhooks.receivers import Receivers
from auditcore_service.webhooks.signatures import signed_headers

log = structlog.get_logger(__name__)

DRAIN_S = 3.0
"""How long requests may delay a shutdown; those that take longer are sent again, by another sender or later."""

UnderWay = dict["asyncio.Task[None]", Attempt]


@final
class WebhookSender:
    """Looks for due deliveries all the time and sends them, many at once.

    Args:
        settings: Which receivers are allowed, and how often to look.
        database: The outbox.
        clock: Seconds since 1970.
        jitter: A random number in [0, 1), which spreads the attempts.
        trust: Certificates to trust; the usual authorities if None.
        whole_s: Time for a request, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        trust: ssl.SSLContext | None = None,
        whole_s: float = WHOLE_S,
    ) -> None:
        self._receivers = Receivers(settings.webhook_prefixes)
        self._poll_s = settings.webhook_poll_s
        self._attempts = Attempts(database, clock=clock, jitter=jitter)
        self._clock = clock
        self._whole_s = whole_s
        # to read the usual authorities takes 50 ms, so it is done once, and not before something is sent
        self._trust = functools.cache(lambda: trust or httpx.create_ssl_context(trust_env=False))
        self._stopping = threading.Event()
        self._wake: Callable[[], object] = _nothing
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_until_stopped()), name="webhook-sender")

    def start(self) -> None:
        """Send in the background until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing is sent any more."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._wake()

    def send_due(self) -> int:
        """Send everything that is due, in this thread; return the number of attempts."""
        return asyncio.run(self._send_due())

    async def _send_due(self) -> int:
        under_way: UnderWay = {}
        sent = 0
        with self._poster() as poster:
            while (started := await self._start_due(poster, under_way, _nothing)) or under_way:
                sent += started
                if under_way:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        return sent

    async def _send_until_stopped(self) -> None:
        under_way: UnderWay = {}
        look = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(look.set)
        with self._poster() as poster:
            while True:
                # in this order, so that no call of `stop` or `wake` is missed
                look.clear()
                if self._stopping.is_set():
                    break
                try:
                    await self._start_due(poster, under_way, look.set)
                except Exception:  # such as a database that restarts; the next look may succeed
                    log.exception("webhooks_not_looked_up")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await look.wait()
            self._wake = _nothing
            if under_way:
                await asyncio.wait(under_way, timeout=DRAIN_S)

    @contextlib.contextmanager
    def _poster(self) -> Iterator[Poster]:
        resolver = ThreadPoolExecutor(MOST_AT_ONCE, "webhook-resolver")
        try:
            yield Poster(self._receivers, resolver, trust=self._trust(), whole_s=self._whole_s)
        finally:
            # a name whose servers do not answer must not delay a shutdown
            resolver.shutdown(wait=False, cancel_futures=True)

    async def _start_due(self, poster: Poster, under_way: UnderWay, landed: Callable[[], object]) -> int:
        """Begin to send as much of what is due as may be under way at once; return how many were begun."""
        started = 0
        while claimed := await asyncio.to_thread(self._attempts.claim, tuple(under_way.values())):
            started += len(claimed)
            for attempt in claimed:
                task = asyncio.create_task(self._send(attempt, poster))
                under_way[task] = attempt

                def forget(task: asyncio.Task[None]) -> None:
                    del under_way[task]
                    landed()

                task.add_done_callback(forget)
        return started

    async def _send(self, attempt: Attempt, poster: Poster) -> None:
        delivery, now = attempt.delivery, self._clock()
        headers = signed_headers(delivery.id, delivery.payload, signing=attempt.webhook.secrets_at(now), now=now)
        try:
            answer: Answer | str
            try:
                answer = await poster.post(attempt.webhook.url, delivery.payload, headers)
            except NotSent as error:
                answer = str(error)
            await asyncio.to_thread(self._attempts.finish, attempt, answer)
        except Exception:  # the delivery is sent again when its lease ends, so one that breaks must not end the others
            log.exception("webhook_attempt_broke", webhook_id=attempt.webhook.id, message_id=delivery.id)


def _nothing() -> None:
    """Where no loop waits."""
