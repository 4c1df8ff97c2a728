"""Requests to a server that fails, lingers, refuses and comes back; a real one, in a thread of the test."""

from __future__ import annotations

import gc
import itertools
import socket
import ssl
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from auditcore.contracts.server_models import RequestLimits
from auditcore.errors import InputError, RequestBudgetExceeded, ServerFailing, UnreachableResource
from auditcore.sources.servers import connection
from auditcore.sources.servers.answers import Body
from auditcore.sources.servers.tokens import TokenFile
from auditcore.sources.servers.transport import FAILURES_TO_BREAK, LONGEST_PAUSE_S, Transport
from scripted_server import Asked, Reply, scripted

PAUSE_S = 0.01


def asking(url: str, *, break_s: float = 0.05, token: TokenFile | None = None, **limits: Any) -> Transport:
    return Transport(url, RequestLimits(**limits), token=token, first_pause_s=PAUSE_S, break_s=break_s)


def in_turn(replies: Iterable[Reply]) -> Callable[[Asked], Reply]:
    """One reply after the other; good ones after the last."""
    left = itertools.chain(replies, itertools.repeat(Reply()))
    lock = threading.Lock()

    def script(_: Asked) -> Reply:
        with lock:
            return next(left)

    return script


def bodies(count: int) -> list[Body]:
    return [Body(str(number).encode()) for number in range(count)]


BUSY = Reply(503, b"queue is full")


def test_answers_come_in_the_order_of_the_bodies_although_later_ones_are_ready_first() -> None:
    def echo(asked: Asked) -> Reply:
        return Reply(content=asked.body, after_s=0.1 if asked.body == b"0" else 0.0)

    with scripted(echo) as server:
        answers = asking(server.url, concurrency=4).post_all("/infer", bodies(8))
    assert [answer.content for answer in answers] == [str(number).encode() for number in range(8)]
    assert {asked.path for asked in server.asked} == {"/infer"}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_as_many_requests_are_under_way_as_are_allowed_and_no_more(concurrency: int) -> None:
    with scripted(lambda _: Reply(after_s=0.05)) as server:
        asking(server.url, concurrency=concurrency).post_all("/", bodies(9))
    assert server.most_at_once == concurrency


def test_what_is_sent_is_what_was_given() -> None:
    with scripted() as server:
        asking(f"{server.url}/base/").post("/infer", Body(b"\0\1", "application/octet-stream", {"X-Length": "2"}))
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/base/infer", b"\0\1")
    assert asked.headers["content-type"] == "application/octet-stream"
    assert asked.headers["x-length"] == "2"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_a_request_is_repeated_if_the_server_fails_briefly(status: int) -> None:
    with scripted(in_turn([Reply(status)] * 3)) as server:
        transport = asking(server.url)
        assert transport.get("/").content == b"ok"
        assert transport.made == 4


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_permanent_error_is_returned_immediately(status: int) -> None:
    with scripted(lambda _: Reply(status, b"no  \n such thing")) as server:
        answer = asking(server.url).get("/")
    assert (answer.status, answer.said, len(server.asked)) == (status, "no such thing", 1)


def test_a_request_on_a_broken_connection_is_repeated() -> None:
    with scripted(in_turn([Reply(hang_up=True)])) as server:
        assert asking(server.url).get("/").status == 200


def test_a_connection_that_the_server_has_closed_does_not_count_as_a_failure() -> None:
    with scripted(lambda _: Reply(close_after=True)) as server:
        transport = asking(server.url, attempts=1)
        for _ in range(5):
            assert transport.get("/").status == 200
            time.sleep(0.02)


def test_many_failures_end_with_a_clear_error_and_few_requests_reach_the_server() -> None:
    with scripted(lambda _: Reply(500, b"worker died")) as server:
        transport = asking(server.url, concurrency=4, attempts=5)
        with pytest.raises(ServerFailing, match=r"fails after 5 tries \(status 500: worker died\); look at") as caught:
            transport.post_all("/", bodies(100))
        time.sleep(0.2)
        reached = len(server.asked)
    assert caught.value.field == "model.url"
    # those that open the breaker, those under way by then, and one probe for each further try
    assert reached <= FAILURES_TO_BREAK + 4 + 5
    assert transport.made == reached


def test_nothing_is_sent_while_the_breaker_is_open_and_then_one_request_tries() -> None:
    # those that open the breaker, those that may be under way by then, and two probes
    failing = FAILURES_TO_BREAK + (FAILURES_TO_BREAK - 1) + 2

    def script(asked: Asked) -> Reply:
        return BUSY if asked.number < failing else Reply(after_s=0.02)

    with scripted(script) as server:
        transport = asking(server.url, concurrency=FAILURES_TO_BREAK, attempts=12, break_s=0.3)
        answers = transport.post_all("/", bodies(20))
    assert [answer.status for answer in answers] == [200] * 20
    assert len(server.asked) == 20 + failing
    gaps_s = [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(server.asked)]
    assert min(gaps_s[failing - 2 : failing]) >= 0.3


def test_requests_resume_when_the_server_has_recovered() -> None:
    with scripted(lambda _: BUSY) as server:
        transport = asking(server.url, attempts=FAILURES_TO_BREAK + 1)
        with pytest.raises(ServerFailing):
            transport.get("/")
        server.script = lambda _: Reply(after_s=0.05)
        assert all(answer.status == 200 for answer in transport.post_all("/", bodies(8)))
        assert server.most_at_once == 4


def test_pauses_are_random_and_grow_up_to_a_bound() -> None:
    transport = Transport("http://127.0.0.1:9", RequestLimits())
    for tries, bound in [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 20.0), (19, 20.0)]:
        pauses = [transport._pause_s(tries, 0.0) for _ in range(500)]
        assert 0 <= min(pauses) < 0.1 * bound
        assert 0.9 * bound < max(pauses) <= bound
        assert abs(sum(pauses) / len(pauses) - bound / 2) < 0.1 * bound


def test_retry_after_is_respected() -> None:
    with scripted(in_turn([Reply(429, headers={"Retry-After": "1"})])) as server:
        asking(server.url).get("/")
    first, second = server.asked
    assert 1.0 <= second.at_s - first.at_s < 1.5


@pytest.mark.parametrize(("said", "pause_s"), [("7", 7), ("soon", 0), ("-3", 0), ("", 0)])
def test_what_a_server_asks_for_may_be_seconds(said: str, pause_s: float) -> None:
    assert connection._asked_pause_s(said) == pause_s


@pytest.mark.parametrize(("hours", "least", "most"), [(1, 3500, 3600), (-1, 0, 0)])
def test_retry_after_may_be_a_date(hours: int, least: float, most: float) -> None:
    said = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    assert least <= connection._asked_pause_s(said) <= most


def test_a_pause_that_the_server_asks_for_has_a_bound() -> None:
    assert Transport("http://127.0.0.1:9", RequestLimits())._pause_s(1, 3600.0) == LONGEST_PAUSE_S


def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableResource, match=r"cannot be reached after 3 tries .*check the address") as caught:
            asking(url, attempts=3).get("/")
    assert caught.value.field == "model.url"


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_names_no_server_is_unreachable(url: str) -> None:
    with pytest.raises(UnreachableResource, match="check the address"):
        asking(url, attempts=2).get("/")


@pytest.mark.parametrize(
    "reply", [Reply(after_s=1.0), Reply(content=b"0123456789", between_s=0.1)], ids=["silent", "trickling"]
)
def test_a_slow_answer_is_given_up(reply: Reply) -> None:
    with scripted(lambda _: reply) as server:
        begun = time.monotonic()
        with pytest.raises(ServerFailing, match=r"answer within 0\.3 s"):
            asking(server.url, timeout_s=0.3, attempts=2).get("/")
        assert time.monotonic() - begun < 0.95
        assert len(server.asked) == 2


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_ANSWER_BYTES", 100_000)
    with scripted(lambda _: Reply(content=bytes(5_000_000))) as server:
        with pytest.raises(ServerFailing, match="more than 100000 bytes; ask for fewer images") as caught:
            asking(server.url).get("/")
        assert caught.value.field == "model.limits.images_per_request"
        assert len(server.asked) == 1


def test_an_answer_that_cannot_be_unpacked_is_reported() -> None:
    with (
        scripted(lambda _: Reply(content=b"no gzip", headers={"Content-Encoding": "gzip"})) as server,
        pytest.raises(ServerFailing, match="cannot be decoded"),
    ):
        asking(server.url).get("/")


def test_a_redirect_is_not_followed() -> None:
    with scripted() as other, scripted(lambda _: Reply(307, headers={"Location": f"{other.url}/secret"})) as server:
        with pytest.raises(UnreachableResource, match=r"is redirected to .*/secret, which is not followed"):
            asking(server.url).post("/infer", Body(b"1"))
        assert len(server.asked) == 1
        assert not other.asked


def test_proxies_of_the_environment_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as proxy, scripted() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert asking(server.url).get("/").status == 200
        assert not proxy.asked


def test_a_server_inside_is_trusted_by_the_authority_that_the_operator_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with scripted() as server:
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(UnreachableResource, match="certificate verify failed"):
            asking(url, attempts=1).get("/")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert asking(url, attempts=1).get("/").status == 200


def test_the_budget_counts_tries_and_ends_in_a_clear_error() -> None:
    with scripted(in_turn([BUSY] * 2)) as server:
        transport = asking(server.url, requests=10)
        transport.get("/")
        transport.allow(2)
        transport.get("/")
        transport.get("/")
        with pytest.raises(RequestBudgetExceeded, match=r"the 2 requests .*`limits\.requests` is 10") as caught:
            transport.get("/")
        assert caught.value.field == "model.limits.requests"
        assert transport.made == len(server.asked) == 5
        transport.allow(None)
        assert transport.get("/").status == 200


def test_the_budget_applies_to_concurrent_requests() -> None:
    with scripted(lambda _: Reply(after_s=0.01)) as server:
        transport = asking(server.url, concurrency=8, requests=10)
        transport.allow(10)
        with pytest.raises(RequestBudgetExceeded):
            transport.post_all("/", bodies(40))
        time.sleep(0.1)
        assert len(server.asked) == transport.made == 10


def test_after_an_error_the_other_requests_stop_at_once() -> None:
    """Those that wait for their next try would otherwise go on for many seconds."""

    def script(asked: Asked) -> Reply:
        return Reply(401, after_s=0.1) if asked.body == b"0" else BUSY

    with scripted(script) as server:
        transport = Transport(server.url, RequestLimits(concurrency=3), first_pause_s=30.0)
        begun = time.monotonic()
        with pytest.raises(UnreachableResource, match="refuses requests without a token"):
            transport.post_all("/", bodies(3))
        pool = transport._pool
        assert pool is not None
        pool.shutdown(wait=True)
        assert time.monotonic() - begun < 2


def test_the_first_error_is_reported_without_waiting() -> None:
    def script(asked: Asked) -> Reply:
        return Reply(401) if asked.body == b"1" else Reply(after_s=1.0)

    with scripted(script) as server:
        begun = time.monotonic()
        with pytest.raises(UnreachableResource, match="refuses"):
            asking(server.url, concurrency=2).post_all("/", bodies(2))
        assert time.monotonic() - begun < 0.8


def token_of(tmp_path: Path, token: str) -> TokenFile:
    path = tmp_path / "token"
    path.write_text(token)
    return TokenFile(path)


def only(token: str) -> Callable[[Asked], Reply]:
    return lambda asked: Reply() if asked.headers.get("authorization") == f"Bearer {token}" else Reply(401, b"expired")


def test_a_token_that_was_renewed_is_read_again_and_not_before(tmp_path: Path) -> None:
    with scripted(only("first")) as server:
        transport = asking(server.url, token=token_of(tmp_path, "first\n"))
        transport.get("/")
        token_of(tmp_path, "second")
        transport.get("/")
        server.script = only("second")
        assert transport.get("/").status == 200
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer first",
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


def test_requests_under_way_together_all_take_the_new_token(tmp_path: Path) -> None:
    """The first that is refused reads the file; to the others the token in use is newer than theirs."""
    with scripted(only("first")) as server:
        transport = asking(server.url, token=token_of(tmp_path, "first"), concurrency=8, attempts=1)
        transport.get("/")
        token_of(tmp_path, "second")
        gate = threading.Barrier(8)
        accepted = only("second")

        def together(asked: Asked) -> Reply:
            if asked.headers["authorization"] == "Bearer first":
                gate.wait(5)
            return accepted(asked)

        server.script = together
        assert {answer.status for answer in transport.post_all("/", bodies(8))} == {200}


def test_a_request_that_is_sent_again_with_a_new_token_counts_twice(tmp_path: Path) -> None:
    with scripted(only("first")) as server:
        transport = asking(server.url, token=token_of(tmp_path, "first"))
        transport.get("/")
        token_of(tmp_path, "second")
        server.script = only("second")
        transport.allow(1)
        with pytest.raises(RequestBudgetExceeded):
            transport.get("/")
        assert transport.made == len(server.asked) == 2
        transport.allow(2)
        assert transport.get("/").status == 200


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_without_end_is_cut_off_before_the_next_try(tmp_path: Path, status: int) -> None:
    endless = Reply(status, b"Token Authorization failed" + bytes(50_000_000))
    accepted = only("second")

    def script(asked: Asked) -> Reply:
        token_of(tmp_path, "second")
        return endless if asked.headers["authorization"] == "Bearer first" else accepted(asked)

    with scripted(script) as server:
        tracemalloc.start()
        answer = asking(server.url, token=token_of(tmp_path, "first")).get("/")
        _, most_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (answer.status, len(server.asked)) == (200, 2)
    # what the server itself sends is one object, which was made before
    assert most_bytes < 5_000_000


def test_a_refusal_that_trickles_is_given_up(tmp_path: Path) -> None:
    slow = Reply(400, b"Token Authorization failed", between_s=0.1)
    with scripted(lambda _: slow) as server:
        begun = time.monotonic()
        with pytest.raises(ServerFailing, match=r"answer within 0\.3 s"):
            asking(server.url, token=token_of(tmp_path, "first"), timeout_s=0.3, attempts=1).get("/")
        assert time.monotonic() - begun < 0.8


def test_a_token_that_never_was_good_is_refused_at_once(tmp_path: Path) -> None:
    with scripted(only("other")) as server:
        with pytest.raises(UnreachableResource, match=r"token of token_file \(401: expired\); give a valid") as caught:
            asking(server.url, token=token_of(tmp_path, "bad")).get("/")
        assert caught.value.field == "model.token_file"
        assert len(server.asked) == 1


def test_the_token_may_be_renewed_a_little_late(tmp_path: Path) -> None:
    with scripted(only("first")) as server:
        transport = asking(server.url, token=token_of(tmp_path, "first"))
        transport.get("/")
        accepted = only("second")

        def renewing(asked: Asked) -> Reply:
            if asked.number == 2:
                token_of(tmp_path, "second")
            return accepted(asked)

        server.script = renewing
        assert transport.get("/").status == 200
        server.script = only("third")
        with pytest.raises(UnreachableResource, match="give a valid token_file") as caught:
            transport.get("/")
    assert caught.value.field == "model.token_file"


def test_torchserves_answer_to_a_bad_token_is_a_refusal(tmp_path: Path) -> None:
    said = b'{"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed. Token either ..."}'
    with (
        scripted(lambda _: Reply(400, said)) as server,
        pytest.raises(UnreachableResource, match="refuses requests with the token"),
    ):
        asking(server.url, token=token_of(tmp_path, "old")).get("/")


def test_a_token_file_that_goes_missing_fails_the_request_and_not_the_next(tmp_path: Path) -> None:
    with scripted(only("first")) as server:
        token = token_of(tmp_path, "first")
        transport = asking(server.url, token=token)
        token.path.unlink()
        with pytest.raises(UnreachableResource, match="no token can be read"):
            transport.get("/")
        token_of(tmp_path, "first")
        assert transport.get("/").status == 200


def test_a_closed_transport_reconnects() -> None:
    with scripted() as server:
        transport = asking(server.url)
        transport.post_all("/", bodies(4))
        transport.close()
        transport.close()
        assert len(transport.post_all("/", bodies(4))) == 4
        transport.close()


def test_closing_ends_requests_that_wait_for_their_next_try() -> None:
    with scripted(lambda _: BUSY) as server:
        transport = Transport(server.url, RequestLimits(concurrency=2, attempts=20), first_pause_s=30.0)
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                transport.post_all("/", bodies(2))
            except BaseException as error:  # noqa: BLE001 - looked at below
                failed.append(error)

        asking_thread = threading.Thread(target=ask)
        asking_thread.start()
        while len(server.asked) < 2:
            time.sleep(0.01)
        transport.close()
        asking_thread.join(5)
        assert not asking_thread.is_alive()
        assert failed


def test_a_forgotten_transport_gives_its_connections_and_threads_back() -> None:
    with scripted() as server:
        transport = asking(server.url)
        transport.post_all("/", bodies(4))
        connections, pool = transport._connection._open, transport._pool
        assert connections is not None
        assert pool is not None
        forgotten = weakref.ref(transport)
        del transport
        gc.collect()
        assert forgotten() is None
        assert connections.is_closed
        assert pool._shutdown


def test_no_error_repeats_the_token(tmp_path: Path) -> None:
    with scripted(lambda _: Reply(403)) as server, pytest.raises(InputError) as caught:
        asking(server.url, token=token_of(tmp_path, "s3cret")).get("/")
    assert "s3cret" not in str(caught.value)
