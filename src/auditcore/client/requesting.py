"""From a call to the value of its answer: the request, its repetitions, and refusals as errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar, final

import httpx
from httpx_sse import SSEError
from pydantic import ValidationError
from tenacity import retry_if_exception
from tenacity.asyncio import AsyncRetrying

from auditcore.client.calls import Call
from auditcore.client.credentials import TokenSource
from auditcore.client.curl import curl_command
from auditcore.client.errors import AnswerUnreadable, NotAuditcore, Unreachable
from auditcore.client.refusals import refusal_of
from auditcore.client.retries import Retries, is_passing
from auditcore.client.sending import Sender, Stream
from auditcore.client.uploads import Form

T = TypeVar("T")

USER_AGENT: Final = f"auditcore/{version('auditcore')}"

Narrate = Callable[[str], None]
"""Gets a curl command that does the same as the call that follows."""

_JSON = "application/json"


@final
class Requester:
    """Sends calls to one service."""

    def __init__(
        self,
        url: str,
        sender: Sender,
        *,
        token: TokenSource | None,
        timeout: httpx.Timeout,
        retries: Retries,
        narrate: Narrate | None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Address of the service, without a slash at its end.
            sender: How requests are sent.
            token: Called for each request, so that a file that is renewed is read again; None for no credentials.
            timeout: Of each request.
            retries: When to try again.
            narrate: Called once before each call.
        """
        self.url = url
        self.sender = sender
        self.retries = retries
        self._token = token
        self._timeout = timeout
        self._narrate = narrate

    async def value_of(self, call: Call[T], *, retries: Retries | None = None) -> T:
        """The value of a call.

        Args:
            call: The call.
            retries: Others than those of this client.

        Raises:
            ClientError: The service refuses it or cannot be reached, or its answer cannot be read.
        """
        if self._narrate is not None:
            self._narrate(curl_command(call, self.url, credentials=self._token is not None))
        return await self.again(call, retries=retries)

    async def again(self, call: Call[T], *, retries: Retries | None = None) -> T:
        """The same without narrating, for a call that is only repeated."""
        answer = await self._answer(call, retries or self.retries)
        try:
            return call.read(answer.content)
        except ValueError as error:
            raise _unreadable(answer, error) from error

    async def answer_of(self, call: Call[T]) -> tuple[int, T]:
        """Status and value of a call whose status tells something."""
        answer = await self._answer(call, self.retries)
        try:
            return answer.status_code, call.read(answer.content)
        except ValueError as error:
            raise _unreadable(answer, error) from error

    @asynccontextmanager
    async def events(self, path: str, *, after: int | None) -> AsyncGenerator[Stream, None]:
        """The server-sent events below a path.

        Args:
            path: Where they are.
            after: Number of the last event that is known; None to begin at the first.

        Raises:
            ClientError: The service refuses it, or the connection is lost while the context lasts.
        """
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        request = self._request("GET", path, headers=headers)
        try:
            async with self.sender.stream(request) as stream:
                if not stream.answer.is_success:
                    raise refusal_of(stream.answer)
                yield stream
        except SSEError as error:
            raise NotAuditcore(str(request.url), httpx.codes.OK) from error
        except httpx.TransportError as error:
            raise Unreachable(self.url, error) from error

    async def _answer(self, call: Call[T], retries: Retries) -> httpx.Response:
        async def send() -> httpx.Response:
            # files are opened for each try, since a try may end in the middle of them
            with ExitStack() as opened:
                request = self._of_call(call, opened)
                try:
                    answer = await self.sender.send(request)
                except httpx.TransportError as error:
                    raise Unreachable(self.url, error) from error
            if not answer.is_success:
                raise refusal_of(answer)
            return answer

        retrying = AsyncRetrying(
            retry=retry_if_exception(partial(is_passing, repeatable=call.repeatable)),
            wait=retries.pause_s,
            stop=retries.stop,
            sleep=self.sender.sleep,
            reraise=True,
        )
        answer: httpx.Response = await retrying(send)
        return answer

    def _of_call(self, call: Call[T], opened: ExitStack) -> httpx.Request:
        headers = {"Accept": _JSON, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = _JSON
        return self._request(
            call.method, call.path, headers=headers, query=call.query, body=call.body, form=call.form, opened=opened
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: tuple[tuple[str, str], ...] = (),
        body: str | None = None,
        form: Form | None = None,
        opened: ExitStack | None = None,
    ) -> httpx.Request:
        credentials = {} if self._token is None else {"Authorization": f"Bearer {self._token()}"}
        files = None
        if form is not None and opened is not None:
            files = [
                (field, (one.name, opened.enter_context(one.content.open("rb"))))
                if isinstance(one.content, Path)
                else (field, (one.name, one.content))
                for field, one in form.files
            ]
        return httpx.Request(
            method,
            f"{self.url}{path}",
            params=query or None,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate", **headers, **credentials},
            content=body,
            files=files,
            data=None if form is None else dict(form.texts),
            extensions={"timeout": self._timeout.as_dict()},
        )


def _unreadable(answer: httpx.Response, error: ValueError) -> AnswerUnreadable | NotAuditcore:
    """The error of an answer that is no refusal and cannot be read.

    A document of JSON comes from a service of another version, or from another program; anything else only from that.
    """
    if not answer.headers.get("Content-Type", "").startswith(_JSON):
        return NotAuditcore(str(answer.request.url), answer.status_code)
    reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    message = (
        f"the answer of {answer.request.url} cannot be read ({reason}); use the version of auditcore that the service "
        "has, and check that it is one"
    )
    return AnswerUnreadable(message)
