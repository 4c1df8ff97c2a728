"""The two clients: one blocks, one runs on an event loop."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, final

import httpx

from auditcore.client.address import service_url
from auditcore.client.credentials import TokenSource, token_from_environment, token_source
from auditcore.client.operations import Operations
from auditcore.client.requesting import Narrate, Requester
from auditcore.client.retries import Retries
from auditcore.client.sending import AsyncSender, BlockingSender, iterate_blocking, run_blocking

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_S = 10.0
"""Longest wait for a connection; a service that is there accepts one in less than a second."""


def blocking(
    method: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """The method of `Client` that returns when an operation has ended."""

    @functools.wraps(method)
    def until_it_ends(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_blocking(method(client._operations, *args, **kwargs))  # noqa: SLF001 - a method of this class

    return until_it_ends


def iterating(
    method: Callable[Concatenate[Operations, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """The method of `Client` that iterates over what an operation finds."""

    @functools.wraps(method)
    def one_by_one(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return iterate_blocking(method(client._operations, *args, **kwargs))  # noqa: SLF001 - a method of this class

    return one_by_one


@final
class Client:
    """A connection to one service; every method returns when the service has answered.

    Use it as a context manager, which closes its connections. It may be used by several threads.

    A request that finds nobody, or that the service asks to repeat (429, 502, 503, 504), is sent again if doing it
    twice is the same as doing it once, as `retries` say. Submits carry an idempotency key, and uploads are addressed by
    their content, so both may be repeated.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | TokenSource | None = None,
        timeout: float = 60.0,
        retries: Retries | None = None,
        narrate: Narrate | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Address of the service; AUDIT_URL, or http://127.0.0.1:8000, if None.
            token: API key or token, or a function that is called for each request; that of AUDIT_TOKEN, or of the file
                of AUDIT_TOKEN_FILE, which is read for each request, if None.
            timeout: Most seconds without a byte of an answer; a connection gets at most 10.
            retries: When a request is sent again.
            narrate: Called before each call with a curl command that does the same; it shows no secret.
            transport: How httpx connects, such as `httpx.HTTPTransport(verify=context, proxy=...)`.
            sleep: Waits for some seconds.

        Raises:
            InvalidArgument: The URL is not that of a service, or there is no usable token where one is named.
        """
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_S))
        sender = BlockingSender(httpx.Client(transport=transport, timeout=limits), sleep)
        self._requester = Requester(
            service_url(url),
            sender,
            token=_source(token),
            timeout=limits,
            retries=retries or Retries(),
            narrate=narrate,
        )
        self._operations = Operations(self._requester)

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        run_blocking(self._requester.sender.close())

    @property
    def url(self) -> str:
        """Address of the service, without a slash at its end."""
        return self._requester.url

    upload = blocking(Operations.upload)
    upload_maps = blocking(Operations.upload_maps)
    submit = blocking(Operations.submit)
    status = blocking(Operations.status)
    list = iterating(Operations.list)
    wait = blocking(Operations.wait)
    events = iterating(Operations.events)
    cancel = blocking(Operations.cancel)
    delete = blocking(Operations.delete)
    report = blocking(Operations.report)
    report_as = blocking(Operations.report_as)
    artifact = blocking(Operations.artifact)
    evidence = blocking(Operations.evidence)
    verify = blocking(Operations.verify)
    estimate = blocking(Operations.estimate)
    inspect = blocking(Operations.inspect)
    catalogue = blocking(Operations.catalogue)
    policies = iterating(Operations.policies)
    policy = blocking(Operations.policy)
    log = iterating(Operations.log)
    submit_training = blocking(Operations.submit_training)
    wait_for_training = blocking(Operations.wait_for_training)
    training_report = blocking(Operations.training_report)
    trained_weights = blocking(Operations.trained_weights)
    submit_experiment = blocking(Operations.submit_experiment)
    wait_for_experiment = blocking(Operations.wait_for_experiment)
    experiment_files = blocking(Operations.experiment_files)
    experiment_file = blocking(Operations.experiment_file)


@final
class AsyncClient(Operations):
    """A connection to one service, for an event loop of asyncio or Trio.

    It has the methods of `Client`. They are awaited, and what iterates there is iterated with `async for`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | TokenSource | None = None,
        timeout: float = 60.0,
        retries: Retries | None = None,
        narrate: Narrate | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Connect to nothing yet. Arguments are those of `Client`.

        Raises:
            InvalidArgument: The URL is not that of a service, or there is no usable token where one is named.
        """
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_S))
        sender = AsyncSender(httpx.AsyncClient(transport=transport, timeout=limits), sleep)
        requester = Requester(
            service_url(url),
            sender,
            token=_source(token),
            timeout=limits,
            retries=retries or Retries(),
            narrate=narrate,
        )
        super().__init__(requester)

    async def __aenter__(self) -> Self:
        """Use as a context manager."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._requester.sender.close()


def _source(token: str | TokenSource | None) -> TokenSource | None:
    """Where the token of each request comes from."""
    if token is None:
        return token_from_environment()
    return token_source(token, None) if isinstance(token, str) else token
