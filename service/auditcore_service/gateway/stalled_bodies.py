"""Gives up a request whose body makes no progress."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final, final

import anyio
from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SLOWEST_BYTES_PER_S: Final = 1024
"""A client that sends less than this in the mean, after the time that may pass without a byte, is given up."""


@final
class StalledBodies:
    """ASGI middleware: a limit on the time between two parts of a body, and on the mean speed of a body.

    Attributes:
        stalled_s: Longest time without a byte, in seconds.
    """

    def __init__(self, app: ASGIApp, *, stalled_s: float) -> None:
        self.app = app
        self.stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a `receive` that does not wait for ever."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, received, complete = time.monotonic(), 0, False

        async def timely() -> Message:
            nonlocal received, complete
            if complete:
                # a reader that asks now waits for the client to go away
                return await receive()
            left = started + self.stalled_s + received / SLOWEST_BYTES_PER_S - time.monotonic()
            try:
                with anyio.fail_after(max(0.0, min(self.stalled_s, left))):
                    message = await receive()
            except TimeoutError:
                # inside the application, so that it is answered like every other error; the rest is never read
                detail = (
                    f"the body makes no progress: {received} bytes in {time.monotonic() - started:.0f} s; send it "
                    "again over a better connection"
                )
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, timely, send)
