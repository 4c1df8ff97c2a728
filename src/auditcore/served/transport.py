"""Requests to a server of models: several at once, tried again with jitter, broken off when the server is down.

Which servers may be asked is the operator's choice (`AccessRules.check_server_url`); they are often inside the network,
so addresses are not restricted beyond that. Redirects are not followed: they would lead out of the prefix.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import httpx
import pybreaker
import tenacity

from auditcore.contracts.served_models import RequestLimits
from auditcore.errors import InputError, RequestBudgetExceeded, ServerFailing, UnreachableResource
from auditcore.served.tokens import TokenFile

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
"""Pauses are random, up to a bound that doubles from the first to the longest."""

FAILURES_TO_BREAK = 5
"""Failures in a row, over all requests under way, after which nothing is sent for `BREAK_S`."""

BREAK_S = 5.0

MOST_ANSWER_BYTES = 256 * 2**20

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
"""Answers that may be better in a moment; TorchServe says 503 when its queue is full and 507 when a worker died."""

BAD_REQUEST = 400
REFUSED = frozenset({401, 403})
TOKEN_REFUSED = b"Token Authorization failed"
"""What TorchServe 0.12 says, with status 400, to a token that is wrong or has expired."""

SHOWN = 200
"""Characters of an answer that an error repeats."""


@final
@dataclass(frozen=True)
class Body:
    """What is sent.

    Attributes:
        content: Bytes.
        media_type: Their type.
        headers: Further headers.
    """

    content: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Answer:
    """What came back; any status that is not tried again."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def refused(self) -> bool:
        """Whether the server wants another token."""
        return self.status in REFUSED or (self.status == BAD_REQUEST and TOKEN_REFUSED in self.content)

    @property
    def said(self) -> str:
        """The beginning of the answer as text, for an error."""
        text = self.content[: 4 * SHOWN].decode(errors="replace")
        return " ".join(text.split())[:SHOWN]


class _Again(Exception):
    """A try that failed in a way that may pass."""

    def __init__(self, reason: str, *, reached: bool) -> None:
        super().__init__(reason)
        self.reached = reached


@final
class Transport:
    """Requests to one base URL.

    Attributes:
        made: Requests sent so far, tries included.
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
        self.made = 0
        self._limits = limits
        self._token_file = token
        self._field = field
        self._first_pause_s = first_pause_s
        self._token: str | None = None
        self._allowed: int | None = None
        self._lock = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES_TO_BREAK, reset_timeout=break_s, throw_new_error_on_trip=False
        )

    @cached_property
    def _client(self) -> httpx.Client:
        client = httpx.Client(
            timeout=httpx.Timeout(self._limits.timeout_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=self._limits.concurrency + 1),
            follow_redirects=False,
            trust_env=False,  # a proxy of the environment would see tokens and images
        )
        # a model that is forgotten takes its connections with it
        weakref.finalize(self, client.close)
        return client

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        threads = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="ask")
        weakref.finalize(self, threads.shutdown, wait=False)
        return threads

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        with self._lock:
            self._allowed = None if requests is None else self.made + requests

    def get(self, path: str) -> Answer:
        """GET below the base; errors are those of `post`."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Body) -> Answer:
        """POST below the base.

        Raises:
            UnreachableResource: Nobody answers, or the token is refused.
            ServerFailing: The server fails every time.
            RequestBudgetExceeded: No request is left.
        """
        return self._ask("POST", path, body)

    def post_all(self, path: str, bodies: Sequence[Body]) -> list[Answer]:
        """POST several bodies, some at once; answers in the order of the bodies. Errors are those of `post`."""
        if len(bodies) == 1:
            return [self.post(path, bodies[0])]
        pending = [self._threads.submit(self.post, path, body) for body in bodies]
        try:
            return [one.result() for one in pending]
        finally:
            # after an error the rest would only add to the server's troubles
            for one in pending:
                one.cancel()

    def close(self) -> None:
        """Give connections and threads back."""
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if "_client" in self.__dict__:
            self._client.close()

    def _ask(self, method: str, path: str, body: Body | None) -> Answer:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._limits.attempts),
            wait=tenacity.wait_random_exponential(multiplier=self._first_pause_s, max=LONGEST_PAUSE_S),
            retry=tenacity.retry_if_exception_type((_Again, pybreaker.CircuitBreakerError)),
            reraise=True,
        )
        last: list[_Again] = []

        def once() -> Answer:
            try:
                return self._breaker.call(self._once, method, path, body)
            except _Again as error:
                last.append(error)
                raise

        try:
            return retrying(once)
        except (_Again, pybreaker.CircuitBreakerError) as error:
            raise self._given_up(last[-1] if last else None) from error

    def _given_up(self, last: _Again | None) -> InputError:
        tries = f"{self._limits.attempts} tries" if self._limits.attempts > 1 else "one try"
        if last is not None and not last.reached:
            msg = f"{self.url} cannot be reached after {tries} ({last}); check the address and that the server is up"
            return UnreachableResource(msg, field=self._field)
        reason = "it failed too often before" if last is None else str(last)
        msg = f"{self.url} fails after {tries} ({reason}); look at the server's log, then submit the audit again"
        return ServerFailing(msg, field=self._field)

    def _once(self, method: str, path: str, body: Body | None) -> Answer:
        """One try, and a second one at once if the token was refused and the file has a newer one."""
        answer = self._send(method, path, body)
        if answer.refused and self._renew_token():
            answer = self._send(method, path, body)
        if answer.refused:
            with_token = "without a token" if self._token is None else "with the token of token_file"
            msg = f"{self.url} refuses requests {with_token} ({answer.status}: {answer.said}); give a valid token_file"
            raise UnreachableResource(msg, field="model.token_file")
        if answer.status in RETRIED:
            msg = f"status {answer.status}: {answer.said}"
            raise _Again(msg, reached=True)
        return answer

    def _renew_token(self) -> bool:
        """Read the token file again; whether it holds another token than was refused."""
        if self._token_file is None:
            return False
        with self._lock:
            before, self._token = self._token, self._token_file.read()
            return self._token != before

    def _send(self, method: str, path: str, body: Body | None) -> Answer:
        self._count()
        if self._token is None and self._token_file is not None:
            self._renew_token()
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers |= {"Content-Type": body.media_type, **body.headers}
        try:
            with self._client.stream(
                method, f"{self.url}{path}", headers=headers, content=None if body is None else body.content
            ) as response:
                return Answer(response.status_code, response.headers, self._read(response))
        except httpx.TimeoutException as error:
            msg = f"no answer within {self._limits.timeout_s:g} s"
            raise _Again(msg, reached=not isinstance(error, httpx.ConnectTimeout)) from error
        except httpx.TransportError as error:
            raise _Again(
                str(error) or type(error).__name__, reached=not isinstance(error, httpx.ConnectError)
            ) from error
        except (httpx.InvalidURL, httpx.StreamError, httpx.DecodingError, UnicodeError) as error:
            msg = f"{self.url}{path} cannot be asked ({error}); check the address"
            raise UnreachableResource(msg, field=self._field) from error

    def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MOST_ANSWER_BYTES:
                msg = f"{self.url} answers with more than {MOST_ANSWER_BYTES} bytes; ask for fewer images a request"
                raise ServerFailing(msg, field="model.limits.images_per_request")
        return bytes(content)

    def _count(self) -> None:
        with self._lock:
            if self._allowed is not None and self.made >= self._allowed:
                msg = (
                    f"the audit has used up its {self._limits.requests} requests to {self.url}; raise "
                    "`limits.requests`, or use fewer images, explainers or checks"
                )
                raise RequestBudgetExceeded(msg, field="model.limits.requests")
            self.made += 1
