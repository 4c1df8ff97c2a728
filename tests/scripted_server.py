"""A real HTTP server in a thread of the test, which answers as a function says and remembers what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Asked:
    """A request; `number` counts from 0, `at_s` is a monotonic clock's."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


@dataclass(frozen=True)
class Reply:
    """What is answered: `content` after `after_s`, piece by piece with `between_s` if it is given."""

    status: int = 200
    content: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    between_s: float = 0.0
    hang_up: bool = False
    close_after: bool = False


class Scripted:
    """The running server.

    Attributes:
        url: Where it is.
        asked: All requests so far.
        most_at_once: That were under way together.
        script: What answers; may be replaced at any time.
    """

    def __init__(self, script: Callable[[Asked], Reply], host: str = "127.0.0.1") -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                scripted._answer(self)

            def do_POST(self) -> None:
                scripted._answer(self)

            def do_DELETE(self) -> None:
                scripted._answer(self)

            def do_HEAD(self) -> None:
                scripted._answer(self)

            def do_PATCH(self) -> None:
                scripted._answer(self)

            def do_PUT(self) -> None:
                scripted._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that hang up are what some tests are about."""

        self._server = Server((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            asked = Asked(len(self.asked), handler.command, handler.path, headers, body, time.monotonic())
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = self.script(asked)
            time.sleep(reply.after_s)
        finally:
            # before the answer leaves, as the client may send the next request as soon as it has it
            with self._lock:
                self._now -= 1
        if reply.hang_up:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.content)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        for piece in [reply.content] if not reply.between_s else [bytes([one]) for one in reply.content]:
            handler.wfile.write(piece)
            time.sleep(reply.between_s)
        handler.close_connection = reply.close_after


@contextmanager
def scripted(script: Callable[[Asked], Reply] = lambda _: Reply(), host: str = "127.0.0.1") -> Iterator[Scripted]:
    """The server, at an address of this machine, while the block runs."""
    server = Scripted(script, host)
    server._thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()
        server._thread.join()
