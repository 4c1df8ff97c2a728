"""One HTTP request to a model server and its outcome: an answer, a failure that may pass, or an error.

Which servers may be asked is the operator's choice (`AccessRules.check_server_url`); they are often inside the network,
so addresses are not restricted beyond that. Redirects are not followed: they would point outside the prefix.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import final

import httpx

from auditcore.contracts.server_models import RequestLimits
from auditcore.errors import ServerFailing, UnreachableResource
from auditcore.sources.servers.answers import SHOWN, Answer, Body
from auditcore.sources.servers.budget import RequestBudget
from auditcore.sources.servers.token_auth import TokenAuth
from auditcore.sources.servers.tokens import TokenFile

CONNECT_S = 10.0

IDLE_S = 2.0
"""How long an idle connection is kept. The server of MLServer and KServe, uvicorn, closes it after 5 s, and a request
that is sent at that moment fails."""

MOST_ANSWER_BYTES = 256 * 2**20

DEADLINE = "auditcore_deadline"
"""Extension of a request: the reading of the monotonic clock by which its whole answer must be there."""

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
"""Statuses that are retried; TorchServe answers 503 when its queue is full and 507 when a worker died."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})


class PassingFailure(Exception):
    """A try that failed in a way that may pass.

    Attributes:
        reached: Whether the server was reached.
        refused: Whether only the token was refused.
        after_s: How long the server asks to wait, in seconds.
    """

    def __init__(self, reason: str, *, reached: bool, refused: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reached = reached
        self.refused = refused
        self.after_s = after_s


@final
class Connection:
    """Requests to one base URL, each tried once; any thread may ask.

    Attributes:
        url: The base, without a slash at its end.
    """

    def __init__(
        self, url: str, limits: RequestLimits, budget: RequestBudget, *, token: TokenFile | None, field: str
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Base, with or without a slash at its end.
            limits: Timeout, and how many connections there may be.
            budget: Counts the requests.
            token: Where the bearer token is; None sends none.
            field: Path of the URL in the request, for errors.
        """
        self.url = url.rstrip("/")
        self._limits = limits
        self._budget = budget
        self._auth = None if token is None else TokenAuth(token)
        self._field = field
        self._accepted: str | None = None
        self._lock = threading.Lock()
        self._open: httpx.Client | None = None

    def ask(self, method: str, path: str, body: Body | None) -> Answer:
        """Send one request.

        Raises:
            PassingFailure: The server cannot answer now, and may be able to in a moment.
            UnreachableResource: The token is refused, or the address is wrong.
            ServerFailing: The answer has no end, or cannot be decoded.
            RequestBudgetExceeded: No request is left.
        """
        answer, authorization = self._send(method, path, body)
        if answer.refused:
            with_token = "without a token" if authorization is None else "with the token of token_file"
            msg = f"{self.url} refuses requests {with_token} ({answer.status}: {answer.said}); give a valid token_file"
            if authorization is not None and authorization == self._accepted:
                # the server took this token a moment ago; its renewal may be a little late
                raise PassingFailure(msg, reached=True, refused=True)
            raise UnreachableResource(msg, field="model.token_file")
        if answer.status in RETRIED:
            msg = f"status {answer.status}: {answer.said}"
            raise PassingFailure(msg, reached=True, after_s=_asked_pause_s(answer.headers.get("retry-after", "")))
        if answer.status in REDIRECTS:
            msg = (
                f"{self.url}{path} is redirected to {answer.headers.get('location', 'nowhere')[:SHOWN]}, which is not "
                "followed; give the address of the server itself"
            )
            raise UnreachableResource(msg, field=self._field)
        self._accepted = authorization
        return answer

    def close(self) -> None:
        """Give the connections back; the next request connects again."""
        with self._lock:
            connections, self._open = self._open, None
        if connections is not None:
            connections.close()

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._open is None:
                most = self._limits.concurrency + 1
                self._open = httpx.Client(
                    auth=self._auth,
                    event_hooks={"request": [functools.partial(_begin, self._budget, self._limits.timeout_s)]},
                    # servers inside the network have certificates of the operator's own authority (SSL_CERT_FILE)
                    verify=httpx.create_ssl_context(),
                    timeout=httpx.Timeout(self._limits.timeout_s, connect=min(CONNECT_S, self._limits.timeout_s)),
                    limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=IDLE_S),
                    follow_redirects=False,
                    trust_env=False,  # a proxy of the environment would see tokens and images
                )
                # an unused client is closed with this object
                weakref.finalize(self, self._open.close)
            return self._open

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
            raise PassingFailure(msg, reached=not isinstance(error, httpx.ConnectTimeout)) from error
        except httpx.UnsupportedProtocol as error:
            raise self._no_address(path, error) from error
        except httpx.TransportError as error:
            raise PassingFailure(
                str(error) or type(error).__name__, reached=not isinstance(error, httpx.ConnectError)
            ) from error
        except httpx.DecodingError as error:
            msg = f"{self.url} answers in a way that cannot be decoded ({error}); check the proxy in front of it"
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
            # the timeout of the connection is for each piece; a server that sends slowly would never exceed it
            if time.monotonic() > deadline:
                msg = f"no whole answer within {self._limits.timeout_s:g} s"
                raise PassingFailure(msg, reached=True)
        return bytes(content)


def _begin(budget: RequestBudget, timeout_s: float, request: httpx.Request) -> None:
    """Count a request before it is sent, and note when its answer must be there.

    A function, because a client that knew its `Connection` would keep it alive.
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
