"""Requests to a model server: several at once, retried with jitter, stopped when the server is down."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import final

from auditcore.contracts.server_models import RequestLimits
from auditcore.errors import InputError, ServerFailing, UnreachableResource
from auditcore.sources.servers.answers import Answer, Body
from auditcore.sources.servers.breaker import Breaker
from auditcore.sources.servers.budget import RequestBudget
from auditcore.sources.servers.connection import Connection, PassingFailure
from auditcore.sources.servers.tokens import TokenFile

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
"""Bounds of the random pause before the first and before a late retry; the bound doubles in between. A pause that the
server asks for is added."""

FAILURES_TO_BREAK = 5
"""Failures in a row, over all running requests, after which nothing is sent for `BREAK_S`; then one at a time."""

BREAK_S = 5.0


@final
class Transport:
    """Requests to one base URL; any thread may ask.

    Attributes:
        url: The base, without a slash at its end.
    """

    def __init__(
        self,
        url: str,
        limits: RequestLimits,
        *,
        token: TokenFile | None = None,
        field: str = "model.url",
        first_pause_s: float = FIRST_PAUSE_S,
        break_s: float = BREAK_S,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Base, with or without a slash at its end.
            limits: How many requests, how large and how many at once.
            token: Where its bearer token is.
            field: Path of the URL in the request, for errors.
            first_pause_s: Bound of the first pause before a second try, in seconds.
            break_s: How long nothing is sent after too many failures.
        """
        self.url = url.rstrip("/")
        self._limits = limits
        self._field = field
        self._first_pause_s = first_pause_s
        self._budget = RequestBudget(self.url, whole=limits.requests)
        self._connection = Connection(self.url, limits, self._budget, token=token, field=field)
        self._lock = threading.Lock()
        self._breaker = Breaker(failures=FAILURES_TO_BREAK, pause_s=break_s)
        self._under_way: set[threading.Event] = set()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def made(self) -> int:
        """Requests sent so far, tries included."""
        return self._budget.made

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        self._budget.allow(requests)

    def get(self, path: str) -> Answer:
        """GET below the base; errors are those of `post`."""
        return self._ask("GET", path, None, threading.Event())

    def post(self, path: str, body: Body) -> Answer:
        """POST below the base.

        Raises:
            UnreachableResource: No server answers, the token is refused, or the answer is a redirect.
            ServerFailing: The server fails every time.
            RequestBudgetExceeded: No request is left.
        """
        return self._ask("POST", path, body, threading.Event())

    def post_all(self, path: str, bodies: Sequence[Body]) -> list[Answer]:
        """POST several bodies, some at once; answers in the order of the bodies. Errors are those of `post`."""
        if len(bodies) == 1:
            return [self.post(path, bodies[0])]
        stopped = threading.Event()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="ask")
                weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
            pool = self._pool
            self._under_way.add(stopped)
        pending = [pool.submit(self._ask, "POST", path, body, stopped) for body in bodies]
        try:
            done, _ = wait(pending, return_when=FIRST_EXCEPTION)
            # raise the error that came first
            for one in done:
                one.result()
            return [one.result() for one in pending]
        finally:
            # after an error the other requests would only add load to the server and to the budget
            self._stop(stopped)
            for one in pending:
                one.cancel()
            with self._lock:
                self._under_way.discard(stopped)

    def close(self) -> None:
        """Close connections and threads; requests that wait for a retry are given up."""
        with self._lock:
            pool, self._pool = self._pool, None
            under_way = tuple(self._under_way)
        for stopped in under_way:
            self._stop(stopped)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    def _stop(self, stopped: threading.Event) -> None:
        stopped.set()
        self._breaker.wake()

    def _ask(self, method: str, path: str, body: Body | None, stopped: threading.Event) -> Answer:
        """Ask until there is an answer or no try is left."""
        tries, last = 0, None
        while True:
            passage = self._breaker.enter(self._limits.attempts - tries, stopped)
            if not passage.sent:
                raise self._given_up(last) from last
            tries = min(tries + passage.failed, self._limits.attempts - 1)
            try:
                answer = self._connection.ask(method, path, body)
            except PassingFailure as error:
                tries, last = tries + 1, error
                if error.refused:
                    self._breaker.succeed()
                else:
                    self._breaker.fail(passage)
                if tries >= self._limits.attempts:
                    raise self._given_up(error) from error
            except BaseException:
                self._breaker.release(passage)
                raise
            else:
                self._breaker.succeed()
                return answer
            stopped.wait(self._pause_s(tries, last.after_s))

    def _pause_s(self, tries: int, after_s: float) -> float:
        """A random pause, so that requests that failed together are not retried together."""
        bound = min(LONGEST_PAUSE_S, self._first_pause_s * 2 ** (tries - 1))
        return min(LONGEST_PAUSE_S, after_s + random.uniform(0.0, bound))  # noqa: S311 - no secret

    def _given_up(self, last: PassingFailure | None) -> InputError:
        tries = f"{self._limits.attempts} tries" if self._limits.attempts > 1 else "one try"
        if last is not None and last.refused:
            return UnreachableResource(str(last), field="model.token_file", passing=True)
        if last is not None and not last.reached:
            msg = f"{self.url} cannot be reached after {tries} ({last}); check the address and that the server is up"
            return UnreachableResource(msg, field=self._field, passing=True)
        reason = "other requests failed as well" if last is None else str(last)
        msg = f"{self.url} fails after {tries} ({reason}); look at the server's log, then submit the audit again"
        return ServerFailing(msg, field=self._field, passing=True)
