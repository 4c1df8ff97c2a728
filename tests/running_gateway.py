"""A gateway on a real port in this process, as `auditcore serve` and `auditcore gateway` run it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from auditcore_service.gateway.process import gateway_config
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.startup import listen


@contextmanager
def running_gateway(settings: Settings) -> Iterator[uvicorn.Server]:
    """A server; `url_of` says where it listens."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(gateway_config(settings))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        yield server
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def port_of(server: uvicorn.Server) -> int:
    """The port on which it listens."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def url_of(server: uvicorn.Server) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{port_of(server)}"


def service_of(server: uvicorn.Server) -> Service:
    """The service behind it."""
    app: Any = server.config.app
    found: Service = app.state.service
    return found
