"""Requests to a server of models: several at once, tried again with jitter, broken off when the server is down.

Which servers may be asked is the operator's choice (`AccessRules.check_server_url`); they are often inside the network,
so addresses are not restricted beyond that. Redirects are not followed: they would lead out of the prefix.
"""

from __future__ import annotations

import functools
import random
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import final

import httpx

from auditcore.contracts.server_models import RequestLimits
from auditcore.errors import InputError, ServerFailing, UnreachableResource
from auditcore.sources.servers.answers import SHOWN, Answer, Body
from auditcore.sources.servers.breaker import Breaker
from auditcore.sources.servers.budget import RequestBudget
from auditcore.sources.servers.token_auth import TokenAuth
from auditcore.sources.servers.tokens import TokenFile

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
"""Pauses are random, up to a bound that doubles from the first to the longest; what a server asks for is added."""

FAILURES_TO_BREAK = 5
"""Failures in a row, over all requests under way, after which nothing is sent for `BREAK_S`; then one at a time."""

BREAK_S = 5.0

IDLE_S = 2.0
"""How long a connection is kept for the next request: uvicorn, below MLServer and KServe, closes after 5 s, and a
request that meets the closing fails."""

MOST_ANSWER_BYTES = 256 * 2**20

DEADLINE = "auditcore_deadline"
"""Extension of a request: the reading of the monotonic clock by which its whole answer must be there."""

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
"""Answers that may be better in a moment; TorchServe says 503 when its queue is full and 507 when a worker died."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Again(Exception):
    """A try that failed in a way that may pass.

    Attributes:
        reached: Whether the server was.
        refused: Whether only the token was wrong, and the server is well.
        after_s: How long the server asks to wait.
    """

    def __init__(self, reason: str, *, reached: bool, refused: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reached = reached
        self.refused = refused
        self.after_s = after_s


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
            limits: How hard the server may be asked.
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
        self._auth = None if token is None else TokenAuth(token)
        self._accepted: str | None = None
        self._lock = threading.Lock()
        self._breaker = Breaker(failures=FAILURES_TO_BREAK, pause_s=break_s)
        self._under_way: set[threading.Event] = set()
        self._connections: httpx.Client | None = None
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
            UnreachableResource: Nobody answers, or the token is refused, or the server is somewhere else.
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
            # the error that came first, not what became of the others
            for one in done:
                one.result()
            return [one.result() for one in pending]
        finally:
            # after an error the rest would only add to the server's troubles, and to what is counted
            self._stop(stopped)
            for one in pending:
                one.cancel()
            with self._lock:
                self._under_way.discard(stopped)

    def close(self) -> None:
        """Give connections and threads back; requests that wait to be tried again are given up."""
        with self._lock:
            connections, self._connections = self._connections, None
            pool, self._pool = self._pool, None
            under_way = tuple(self._under_way)
        for stopped in under_way:
            self._stop(stopped)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        if connections is not None:
            connections.close()

    def _stop(self, stopped: threading.Event) -> None:
        stopped.set()
        self._breaker.wake()

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._connections is None:
                most = self._limits.concurrency + 1
                self._connections = httpx.Client(
                    auth=self._auth,
                    event_hooks={"request": [functools.partial(_begin, self._budget, self._limits.timeout_s)]},
                    # the operator's own authorities (SSL_CERT_FILE) vouch for servers inside the network
                    verify=httpx.create_ssl_context(),
                    timeout=httpx.Timeout(self._limits.timeout_s, connect=min(CONNECT_S, self._limits.timeout_s)),
                    limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=IDLE_S),
                    follow_redirects=False,
                    trust_env=False,  # a proxy of the environment would see tokens and images
                )
                # a model that is forgotten takes its connections with it
                weakref.finalize(self, self._connections.close)
            return self._connections

    def _ask(self, method: str, path: str, body: Body | None, stopped: threading.Event) -> Answer:
        """Ask until there is an answer, or the tries are used up."""
        tries, last = 0, None
        while True:
            passage = self._breaker.enter(self._limits.attempts - tries, stopped)
            if not passage.sent:
                raise self._given_up(last) from last
            tries = min(tries + passage.failed, self._limits.attempts - 1)
            try:
                answer = self._once(method, path, body)
            except _Again as error:
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
        """Random, so that requests which failed together do not come back together."""
        bound = min(LONGEST_PAUSE_S, self._first_pause_s * 2 ** (tries - 1))
        return min(LONGEST_PAUSE_S, after_s + random.uniform(0.0, bound))  # noqa: S311 - no secret

    def _given_up(self, last: _Again | None) -> InputError:
        tries = f"{self._limits.attempts} tries" if self._limits.attempts > 1 else "one try"
        if last is not None and last.refused:
            return UnreachableResource(str(last), field="model.token_file", passing=True)
        if last is not None and not last.reached:
            msg = f"{self.url} cannot be reached after {tries} ({last}); check the address and that the server is up"
            return UnreachableResource(msg, field=self._field, passing=True)
        reason = "other requests failed as well" if last is None else str(last)
        msg = f"{self.url} fails after {tries} ({reason}); look at the server's log, then submit the audit again"
        return ServerFailing(msg, field=self._field, passing=True)

    def _once(self, method: str, path: str, body: Body | None) -> Answer:
        """One try."""
        answer, authorization = self._send(method, path, body)
        if answer.refused:
            with_token = "without a token" if authorization is None else "with the token of token_file"
            msg = f"{self.url} refuses requests {with_token} ({answer.status}: {answer.said}); give a valid token_file"
            if authorization is not None and authorization == self._accepted:
                # the server took this token a moment ago; its renewal may be a little late
                raise _Again(msg, reached=True, refused=True)
            raise UnreachableResource(msg, field="model.token_file")
        if answer.status in RETRIED:
            msg = f"status {answer.status}: {answer.said}"
            raise _Again(msg, reached=True, after_s=_asked_pause_s(answer.headers.get("retry-after", "")))
        if answer.status in REDIRECTS:
            msg = (
                f"{self.url}{path} is redirected to {answer.headers.get('location', 'nowhere')[:SHOWN]}, which is not "
                "followed; give the address of the server itself"
            )
            raise UnreachableResource(msg, field=self._field)
        self._accepted = authorization
        return answer

    def _send(self, method: str, path: str, body: Body | None) -> tuple[Answer, str | None]:
        """The answer, and the header with the token that was sent."""
        headers = {} if body is None else {"Content-Type": body.media_type, **body.headers}
        content = None if body is None else body.content
        try:
            with self._client().stream(method, f"{self.url}{path}", headers=headers, content=content) as response:
                answer = Answer(response.status_code, response.headers, self._read(response))
                return answer, response.request.headers.get("Authorization")
        except httpx.TimeoutException as error:
            msg = f"no answer within {self._limits.timeout_s:g} s"
            raise _Again(msg, reached=not isinstance(error, httpx.ConnectTimeout)) from error
        except httpx.UnsupportedProtocol as error:
            raise self._no_address(path, error) from error
        except httpx.TransportError as error:
            raise _Again(
                str(error) or type(error).__name__, reached=not isinstance(error, httpx.ConnectError)
            ) from error
        except httpx.DecodingError as error:
            msg = f"{self.url} answers in a way that cannot be decoded ({error}); look at what stands in front of it"
            raise ServerFailing(msg, field=self._field) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_address(path, error) from error

    def _no_address(self, path: str, error: Exception) -> UnreachableResource:
        msg = f"{self.url}{path} cannot be asked ({error}); check the address"
        return UnreachableResource(msg, field=self._field)

    def _read(self, response: httpx.Response) -> bytes:
        deadline = response.request.extensions[DEADLINE]
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MOST_ANSWER_BYTES:
                msg = f"{self.url} answers with more than {MOST_ANSWER_BYTES} bytes; ask for fewer images a request"
                raise ServerFailing(msg, field="model.limits.images_per_request")
            # the timeout of the connection is for each piece; a server that trickles would never meet it
            if time.monotonic() > deadline:
                msg = f"no whole answer within {self._limits.timeout_s:g} s"
                raise _Again(msg, reached=True)
        return bytes(content)


def _begin(budget: RequestBudget, timeout_s: float, request: httpx.Request) -> None:
    """Count a request before it is sent, and note when its answer must be there. Knows no `Transport`.

    A client that knew its transport would keep a forgotten one alive.
    """
    budget.spend()
    request.extensions[DEADLINE] = time.monotonic() + timeout_s


def _asked_pause_s(retry_after: str) -> float:
    """What `Retry-After` asks for, in seconds or as a date; 0 if it says neither."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0
