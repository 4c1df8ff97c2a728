"""One request to a receiver: to a checked address, without redirects and proxies, with a limit of time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import version
from typing import final

import httpx

from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore.sources.addresses import Address, pin
from auditcore_service.webhooks.receivers import Receivers

CONNECT_S = 5.0
WHOLE_S = 15.0
"""Time for resolving, connecting, sending and the status of the answer; the specification recommends 15 to 30."""

ANSWER_BYTES = 4096
ANSWER_S = 1.0
"""What is read of an answer after its status, so that a receiver need not see its connection break. It is not used."""

USER_AGENT = f"auditcore/{version('auditcore')}"


class NotSent(Exception):
    """No answer came; the message says why."""


@final
@dataclass(frozen=True)
class Answer:
    """What a receiver said.

    Attributes:
        status: HTTP status.
        retry_after: Its header Retry-After, if it has one.
    """

    status: int
    retry_after: str | None


@final
class Poster:
    """Sends requests, each over a connection of its own.

    Args:
        receivers: Where requests may go.
        resolver: Threads that resolve names.
        trust: Certificates to trust.
        whole_s: Time for a request, in seconds.
    """

    def __init__(
        self,
        receivers: Receivers,
        resolver: Executor,
        *,
        trust: ssl.SSLContext,
        whole_s: float = WHOLE_S,
    ) -> None:
        self._receivers = receivers
        self._resolver = resolver
        self._trust = trust
        self._whole_s = whole_s

    async def post(self, url: str, payload: str, headers: Mapping[str, str]) -> Answer:
        """Send a payload.

        Raises:
            NotSent: The URL may not receive it, or no answer came in time.
        """
        try:
            return await self._post(url, payload.encode(), headers)
        except TimeoutError as error:
            msg = f"no answer came within {self._whole_s:g} s"
            raise NotSent(msg) from error
        except (UnsafeReference, UnreachableResource) as error:
            raise NotSent(error.message) from error
        except httpx.HTTPError as error:
            msg = f"no answer came ({str(error) or type(error).__name__})"
            raise NotSent(msg) from error

    async def _post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Answer:
        checked = self._receivers.check(url, field="url")
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(
            verify=self._trust,
            timeout=httpx.Timeout(self._whole_s, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,  # a proxy or a .netrc of the environment would undo the checks
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json", "Accept-Encoding": "identity"},
        ) as client:
            request = client.build_request("POST", checked, content=payload, headers=dict(headers))
            async with asyncio.timeout(self._whole_s):
                addresses = await loop.run_in_executor(
                    self._resolver, lambda: self._receivers.resolve(checked, field="url")
                )
                response = await _first_connected(client, request, addresses)
            try:
                await _read_a_little(response)
            finally:
                await response.aclose()
        return Answer(response.status_code, response.headers.get("Retry-After"))


async def _first_connected(
    client: httpx.AsyncClient, request: httpx.Request, addresses: list[Address]
) -> httpx.Response:
    """The answer of the first address that accepts a connection."""
    for address in addresses[:-1]:
        pin(request, address)
        with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await client.send(request, stream=True)
    pin(request, addresses[-1])
    return await client.send(request, stream=True)


async def _read_a_little(response: httpx.Response) -> None:
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(ANSWER_S):
            size = 0
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > ANSWER_BYTES:
                    return
