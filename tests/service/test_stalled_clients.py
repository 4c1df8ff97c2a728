"""Clients that begin a request and do not go on, or that do not read their answer, hold nothing for long."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
import uvicorn

from auditcore_service.settings import Settings
from running_gateway import port_of, running_gateway, url_of

STALLED_S = 1.0
HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /v1/audits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def server(make_settings: Callable[..., Settings]) -> Iterator[uvicorn.Server]:
    with running_gateway(make_settings(stalled_s=STALLED_S, connections=40)) as running:
        yield running


def connect(server: uvicorn.Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=60)


def answer_of(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """The answer to what was sent, once the server has closed the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("sent", "drops"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(HEAD, 0, id="half a head"),
        pytest.param(HEAD, 30, id="a head that never ends"),
        pytest.param(POST + b'{"model"', 0, id="half a body"),
        pytest.param(POST + b"{", 30, id="a body in drops"),
    ],
)
def test_a_request_that_does_not_end_is_given_up(server: uvicorn.Server, sent: bytes, drops: int) -> None:
    with connect(server) as connection:
        started = time.monotonic()
        connection.sendall(sent)
        for _ in range(drops):
            time.sleep(STALLED_S / 10)
            try:
                connection.sendall(b"x: y\r\n" if sent == HEAD else b" ")
            except OSError:
                break
        else:
            assert not drops, "it was read to its end"
        if not drops:
            status, problem = answer_of(connection)
            assert (status, problem["code"], problem["status"]) == (408, "request_timeout", 408)
            assert time.monotonic() - started > STALLED_S * 0.9


def test_the_second_request_of_a_connection_has_the_same_limit(server: uvicorn.Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(HEAD)
        assert answer_of(connection)[0] == 408


def test_a_slow_request_that_goes_on_is_answered(server: uvicorn.Server) -> None:
    body = json.dumps({"name": "x" * 4000}).encode()
    with connect(server) as connection:
        connection.sendall(
            POST.replace(b"1000", str(len(body)).encode()).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        for start in range(0, len(body), 400):
            time.sleep(STALLED_S / 5)
            connection.sendall(body[start : start + 400])
        assert answer_of(connection)[0] == 422


def test_a_client_that_does_not_read_is_disconnected(server: uvicorn.Server) -> None:
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # about 20 MiB of answers that nobody takes
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 15)
        deadline = time.monotonic() + 60
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server_state.connections


def test_half_sent_requests_beyond_the_limit_are_refused_and_go_away(server: uvicorn.Server) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(40)]
        for connection in held:
            connection.sendall(HEAD)
        time.sleep(0.1)
        with connect(server) as one_more:
            status, problem = answer_of(one_more)
        assert (status, problem["code"]) == (503, "unavailable")
        time.sleep(STALLED_S + 0.3)
        assert httpx.get(f"{url_of(server)}/livez").status_code == 200
