"""What the clients repeat and what they do not, against a real server that answers as a test says."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditcore.client import Retries, Unreachable
from auditcore.client.errors import (
    AnswerUnreadable,
    ClientError,
    NotAuditcore,
    NotFound,
    Refused,
    ServiceUnavailable,
    TooManyRequests,
)
from auditcore.client.retries import retry_after_s
from auditcore_service.gateway.routes.audit_examples import STATUS_EXAMPLE
from both_clients import KINDS, Kind, client_of
from scripted_server import Asked, Reply, Scripted, scripted

QUICK = Retries(attempts=4, deadline_s=5.0, first_pause_s=0.001, longest_pause_s=0.002)
REQUEST = {"model": {"kind": "demo"}, "images": {"kind": "batch", "digest": "sha256:0"}, "plan": {"preset": "quick"}}


def answered(document: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


def problem(status: int, code: str = "unavailable", **headers: str) -> Reply:
    document = {"title": "T", "detail": "d", "code": code, "errors": [{"pointer": "#/plan", "detail": "fix"}]}
    return answered(document, status, **headers)


STATUS = answered(STATUS_EXAMPLE)
HANG_UP = Reply(hang_up=True)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def answers(*replies: Reply) -> Callable[[Asked], Reply]:
    """One after the other; the last one for ever."""
    return lambda asked: replies[min(asked.number, len(replies) - 1)]


@pytest.mark.parametrize("first", [HANG_UP, problem(502), problem(503), problem(504), Reply(503, b"<html>")])
def test_what_passes_is_repeated(server: Scripted, kind: Kind, first: Reply) -> None:
    server.script = answers(first, first, STATUS)
    with client_of(kind, server.url, retries=QUICK) as client:
        assert client.status("a").fraction == STATUS_EXAMPLE["fraction"]
    assert len(server.asked) == 3


def test_it_ends_after_so_many_tries(server: Scripted, kind: Kind) -> None:
    server.script = answers(problem(503))
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises(ServiceUnavailable) as raised:
        client.status("a")
    assert len(server.asked) == QUICK.attempts
    assert (raised.value.status, raised.value.code) == (503, "unavailable")
    assert [(one.pointer, one.fix) for one in raised.value.mistakes] == [("#/plan", "fix")]


def test_it_ends_at_the_deadline(server: Scripted, kind: Kind) -> None:
    server.script = answers(problem(503, **{"Retry-After": "3"}))
    retries = Retries(attempts=99, deadline_s=2.0)
    began = time.monotonic()
    with client_of(kind, server.url, retries=retries) as client, pytest.raises(ServiceUnavailable) as raised:
        client.status("a")
    # a pause that would end after the deadline is not even begun
    assert time.monotonic() - began < 2.9
    assert len(server.asked) == 1
    assert raised.value.retry_after_s == 3.0


def test_nobody_at_the_address_is_told_in_seconds(kind: Kind) -> None:
    with scripted() as gone:
        url = gone.url
    with (
        client_of(kind, url, retries=QUICK) as client,
        pytest.raises(Unreachable, match=f"no service answers at {url}"),
    ):
        client.status("a")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_pause_that_the_service_asks_for_is_kept(server: Scripted, kind: Kind, form: str) -> None:
    # a date has whole seconds, so that up to one of them is already over
    wanted = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if form == "date" else "1"
    server.script = answers(problem(429, "too_many_requests", **{"Retry-After": wanted}), STATUS)
    with client_of(kind, server.url, retries=QUICK) as client:
        client.status("a")
    first, second = server.asked
    assert 0.7 < second.at_s - first.at_s < 10


def test_a_quota_that_is_used_up_is_no_reason_to_wait(server: Scripted, kind: Kind) -> None:
    server.script = answers(problem(429, "quota_exceeded", **{"Retry-After": "0"}), STATUS)
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises(TooManyRequests) as raised:
        client.submit(REQUEST)
    assert raised.value.code == "quota_exceeded"
    assert len(server.asked) == 1


@pytest.mark.parametrize("reply", [problem(404), problem(422), problem(409), problem(500)])
def test_a_refusal_is_no_reason_to_ask_again(server: Scripted, kind: Kind, reply: Reply) -> None:
    server.script = answers(reply)
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises(Refused):
        client.status("a")
    assert len(server.asked) == 1


@pytest.mark.parametrize("reply", [HANG_UP, problem(503)])
def test_a_deletion_is_not_repeated(server: Scripted, kind: Kind, reply: Reply) -> None:
    server.script = answers(reply)
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises((Unreachable, ServiceUnavailable)):
        client.delete("a")
    assert [asked.method for asked in server.asked] == ["DELETE"]


def test_a_submit_that_is_repeated_keeps_its_key(server: Scripted, kind: Kind) -> None:
    server.script = answers(HANG_UP, STATUS, STATUS, STATUS)
    with client_of(kind, server.url, retries=QUICK) as client:
        client.submit(REQUEST)
        client.submit(REQUEST)
        client.submit(REQUEST, idempotency_key="mine")
    first, again, second, third = (asked.headers["idempotency-key"] for asked in server.asked)
    assert first == again != second
    assert third == "mine"
    assert [json.loads(asked.body) for asked in server.asked] == 4 * [REQUEST]


def test_a_file_is_sent_again_from_its_beginning(server: Scripted, kind: Kind, tmp_path: Any) -> None:
    batch = {"digest": f"sha256:{0:064}", "images": 2, "size_bytes": 9, "entries": []}
    server.script = answers(HANG_UP, problem(503), answered(batch, 201))
    (tmp_path / "b.png").write_bytes(b"the file")
    (tmp_path / "notes.txt").write_bytes(b"not sent")
    with client_of(kind, server.url, retries=QUICK) as client:
        assert client.upload([tmp_path, b"bytes"], labels=[3, None], box_format="xywh").images == 2
    assert len(server.asked) == 3
    for asked in server.asked:
        assert b'filename="b.png"' in asked.body
        assert b"the file" in asked.body
        assert b'filename="image-1"' in asked.body
        assert b"[3, null]" in asked.body
        assert b"not sent" not in asked.body


def test_each_try_asks_for_the_token_and_says_who_asks(server: Scripted, kind: Kind) -> None:
    tokens = iter(["first", "renewed"])
    server.script = answers(problem(503), STATUS)
    with client_of(kind, server.url, retries=QUICK, token=lambda: next(tokens)) as client:
        client.status("a")
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer first", "Bearer renewed"]
    assert server.asked[0].headers["user-agent"].startswith("auditcore/")


def test_credentials_and_address_come_from_the_environment(
    server: Scripted, kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    server.script = answers(STATUS)
    monkeypatch.setenv("AUDIT_URL", server.url)
    (tmp_path / "token").write_text("from-the-file\n")
    monkeypatch.setenv("AUDIT_TOKEN_FILE", str(tmp_path / "token"))
    with client_of(kind, None, retries=QUICK) as client:  # type: ignore[arg-type]
        client.status("a")
        (tmp_path / "token").write_text("renewed")
        client.status("a")
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer from-the-file", "Bearer renewed"]


def test_a_proxy_is_not_taken_for_the_service(server: Scripted, kind: Kind) -> None:
    with client_of(kind, server.url, retries=QUICK) as client:
        for reply, error in (
            (Reply(200, b"<html>welcome</html>"), NotAuditcore),
            (Reply(407, b"<html>log in</html>"), NotAuditcore),
            (answered({"some": "json"}), AnswerUnreadable),
        ):
            server.script = lambda _, reply=reply: reply  # type: ignore[misc]
            with pytest.raises(error) as raised:
                client.status("a")
            assert server.url in str(raised.value)


def test_a_name_cannot_leave_its_path(server: Scripted, kind: Kind) -> None:
    server.script = answers(problem(404))
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises(NotFound):
        client.status("../policies?x=1")
    assert server.asked[0].path == "/v1/audits/..%2Fpolicies%3Fx%3D1"


def event(number: int, state: str) -> bytes:
    data = {"state": state, "progress": {"done": 0, "total": 1, "failed": 0}, "fraction": 0.5}
    return f"event: state\ndata: {json.dumps(data)}\nid: {number}\n\n".encode()


def stream(*events: bytes, cut: bool = False) -> Reply:
    content = b"".join(events)
    length = len(content) + (1 if cut else 0)
    headers = {"Content-Type": "text/event-stream", "Content-Length": str(length)}
    return Reply(200, content, headers, close_after=True)


def test_a_lost_stream_goes_on_after_its_last_event(server: Scripted, kind: Kind) -> None:
    streams = [
        stream(event(3, "queued"), event(5, "running"), cut=True),
        problem(503),
        stream(event(6, "running")),
        stream(event(9, "succeeded"), event(10, "running")),
    ]
    server.script = answers(*streams)
    with client_of(kind, server.url, retries=QUICK, sleep=_no_pause(kind)) as client:
        found = list(client.events("a"))
    assert [(one.id, one.state) for one in found] == [(3, "queued"), (5, "running"), (6, "running"), (9, "succeeded")]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "5", "5", "6"]


def test_a_stream_of_an_audit_that_has_ended_ends(server: Scripted, kind: Kind) -> None:
    server.script = answers(stream(), answered(STATUS_EXAMPLE | {"state": "succeeded"}))
    with client_of(kind, server.url, retries=QUICK, sleep=_no_pause(kind)) as client:
        assert list(client.events("a", after=12)) == []
    assert server.asked[0].headers["last-event-id"] == "12"


def test_an_unknown_audit_has_no_events(server: Scripted, kind: Kind) -> None:
    server.script = answers(problem(404, "not_found"))
    with client_of(kind, server.url, retries=QUICK) as client, pytest.raises(NotFound):
        list(client.events("a"))
    assert len(server.asked) == 1


def _no_pause(kind: Kind) -> Callable[[float], Any]:
    async def pass_by(_seconds: float) -> None:
        return None

    return (lambda _seconds: None) if kind == "blocking" else pass_by


NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@given(st.integers(min_value=0, max_value=10**12))
def test_seconds_to_wait_are_read(seconds: int) -> None:
    assert retry_after_s(f" {seconds} ", now=NOW) == seconds


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_a_date_to_wait_for_is_read(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(date, now=NOW) == max(0, seconds)


@given(st.one_of(st.none(), st.text(), st.text(alphabet="0123456789GMTSunMo,: -+", max_size=40)))
def test_no_header_stops_the_client(text: str | None) -> None:
    found = retry_after_s(text, now=NOW)
    assert found is None or 0 <= found < float("inf")


def test_errors_are_one_tree() -> None:
    from auditcore.client import errors  # noqa: PLC0415 - the module itself is looked at

    kinds = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, ClientError)}
    drawn = set(re.findall(r"^ *(?:\|   )?[|`]-- (\w+)", errors.__doc__ or "", re.MULTILINE))
    assert drawn == kinds - {"ClientError"}
    assert issubclass(errors.WaitTimeout, TimeoutError)
