"""Events reach real receivers that fail in every way, once if all goes well, and never where they must not go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import select
from standardwebhooks import Webhook

from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import read_log
from auditcore_service.store.records import Failure, NewShard, ShardKey
from auditcore_service.store.shards import (
    abandon_shard,
    cancel_audit,
    claim_shard,
    complete_shard,
    fail_audit,
    running_leases,
    take_over_silent,
)
from auditcore_service.store.tables import METADATA, WEBHOOK_DELIVERIES
from auditcore_service.store.webhook_deliveries import (
    KEPT_S,
    Delivery,
    count_deliveries,
    forget_deliveries,
    list_deliveries,
)
from auditcore_service.store.webhooks import StoredWebhook, find_webhook
from auditcore_service.use_cases.webhooks import Webhooks
from auditcore_service.waits import AT_ONCE
from auditcore_service.webhook_events import AuditEvent
from auditcore_service.webhooks import attempts, sender
from auditcore_service.webhooks.attempts import LEASE_S, Attempts
from auditcore_service.webhooks.posting import Answer
from auditcore_service.webhooks.receivers import Receivers
from auditcore_service.webhooks.sender import WebhookSender
from scripted_server import Asked, Reply, Scripted, scripted

EVENTS = ("audit.started", "audit.succeeded", "audit.failed", "audit.cancelled")
DIGEST = f"sha256:{1:064}"
DAY_S = 86_400.0


class Scene:
    """A database, a sender with a clock that stands still, and audits that end as a test wants."""

    def __init__(self, database: Database, *prefixes: str, whole_s: float = 5.0, **options: Any) -> None:
        self.database = database
        self.now = time.time()
        self.settings = Settings(webhook_prefixes=prefixes)
        self.whole_s = whole_s
        self.options = options
        self.sender = self.another_sender()
        receivers = Receivers(prefixes)
        self.webhooks = Webhooks(
            database=database, receivers=receivers, on_enqueued=lambda: None, clock=lambda: self.now
        )
        self._audits = 0

    def another_sender(self) -> WebhookSender:
        return WebhookSender(
            self.settings,
            database=self.database,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
            whole_s=self.whole_s,
            **self.options,
        )

    def register(self, url: str, *, events: Any = EVENTS, tenant: str = "default") -> StoredWebhook:
        return self.webhooks.register(principal(tenant), url=url, events=events, description="")

    def submit(self, *, tenant: str = "default") -> str:
        self._audits += 1
        audit_id = f"{self._audits:08}-0000-0000-0000-000000000000"
        shards = [
            NewShard(wave=0, index=0, kind="compute", start=0, stop=1, weight=1.0),
            NewShard(wave=1, index=0, kind="assemble", start=0, stop=1, weight=1.0),
        ]
        with self.database.writing(tenant) as connection:
            insert_audit(
                connection,
                audit_id=audit_id,
                request="{}",
                plan="{}",
                images=1,
                shards=shards,
                now=self.now,
                name="nightly",
                tags={"version": "3.1", "team": "scans"},
            )
        return audit_id

    def start(self, audit_id: str, *, wave: int = 0) -> None:
        with self.database.writing() as connection:
            assert claim_shard(connection, ShardKey(audit_id, wave, 0), now=self.now, lease_s=30.0)

    def complete(self, audit_id: str, *, wave: int = 0, verdict: str | None = None) -> None:
        with self.database.writing() as connection:
            key = ShardKey(audit_id, wave, 0)
            complete_shard(connection, key, attempt=1, result_digest=DIGEST, now=self.now, verdict=verdict)

    def succeed(self, audit_id: str) -> None:
        self.complete(audit_id)
        self.start(audit_id, wave=1)
        self.complete(audit_id, wave=1, verdict="fail")

    def fail(self, audit_id: str) -> None:
        with self.database.writing() as connection:
            failure = Failure("model_not_loadable", "the weights do not fit")
            fail_audit(connection, ShardKey(audit_id, 0, 0), attempt=1, failure=failure, now=self.now)

    def cancel(self, audit_id: str, *, tenant: str = "default") -> None:
        with self.database.writing(tenant) as connection:
            cancel_audit(connection, audit_id, now=self.now)

    def ended(self, *, tenant: str = "default") -> str:
        """An audit that is cancelled: the shortest way to one event."""
        audit_id = self.submit(tenant=tenant)
        self.cancel(audit_id, tenant=tenant)
        return audit_id

    def deliveries(self, webhook: StoredWebhook) -> tuple[Delivery, ...]:
        with self.database.reading() as connection:
            return list_deliveries(connection, webhook.id, after=None, limit=100)

    def delivery(self, webhook: StoredWebhook) -> Delivery:
        (one,) = self.deliveries(webhook)
        return one

    def stored(self, webhook: StoredWebhook) -> StoredWebhook:
        with self.database.reading() as connection:
            found = find_webhook(connection, webhook.id)
        assert found is not None
        return found


def principal(tenant: str = "default") -> Principal:
    return Principal(tenant, "Ada", frozenset({"webhooks:write"}))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Database]:
    """A database on one engine, for tests of what does not depend on it."""
    opened = Database(f"sqlite:///{tmp_path / 'quick.db'}")
    with opened.writing() as connection:
        METADATA.create_all(connection)
    yield opened
    opened.close()


@pytest.fixture
def receiver() -> Iterator[Scripted]:
    with scripted(lambda _: Reply(204, b"")) as server:
        yield server


def prefix(server: Scripted) -> str:
    return f"{server.url}/"


def events_of(server: Scripted) -> list[str]:
    return [json.loads(asked.body)["type"] for asked in server.asked]


def test_an_event_arrives_once_signed_and_thin(database: Database, receiver: Scripted) -> None:
    scene = Scene(database, prefix(receiver))
    webhook = scene.register(f"{receiver.url}/hook?token=1", events=("audit.succeeded",))
    audit_id = scene.submit()
    scene.start(audit_id)
    scene.succeed(audit_id)
    assert scene.sender.send_due() == 1
    assert scene.sender.send_due() == 0
    (asked,) = receiver.asked
    assert (asked.method, asked.path) == ("POST", "/hook?token=1")
    assert asked.headers["content-type"] == "application/json"
    event = AuditEvent.model_validate_json(asked.body)
    assert event.type == "audit.succeeded"
    assert event.data.model_dump() == {
        "audit_id": audit_id,
        "name": "nightly",
        "tags": {"team": "scans", "version": "3.1"},
        "state": "succeeded",
        "verdict": "fail",
        "error_code": None,
        "links": {"self": f"/v1/audits/{audit_id}", "report": f"/v1/audits/{audit_id}/report"},
    }
    assert len(asked.body) < 1000
    assert Webhook(webhook.secret).verify(asked.body, asked.headers) == json.loads(asked.body)
    message_id, timestamp = asked.headers["webhook-id"], asked.headers["webhook-timestamp"]
    key = base64.b64decode(webhook.secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + asked.body, hashlib.sha256)
    assert asked.headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    delivery = scene.delivery(webhook)
    assert (delivery.id, delivery.state, delivery.attempts, delivery.status) == (message_id, "delivered", 1, 204)
    assert (delivery.audit_id, delivery.error, delivery.next_attempt_at) == (audit_id, None, None)


def test_every_way_in_which_an_audit_ends_is_an_event(database: Database, receiver: Scripted) -> None:
    scene = Scene(database, prefix(receiver))
    webhook = scene.register(receiver.url)
    key = ShardKey

    def ends(how: Callable[[str], None], *, started: bool = True) -> list[str]:
        audit_id = scene.submit()
        if started:
            scene.start(audit_id)
        how(audit_id)
        receiver.asked.clear()
        scene.sender.send_due()
        assert {json.loads(asked.body)["data"]["audit_id"] for asked in receiver.asked} == {audit_id}
        return sorted(events_of(receiver))

    def cancel_and_abandon(audit_id: str) -> None:
        scene.cancel(audit_id)
        with database.writing() as connection:
            abandon_shard(connection, key(audit_id, 0, 0), attempt=1, now=scene.now)

    def cancel_and_complete(audit_id: str) -> None:
        scene.cancel(audit_id)
        scene.complete(audit_id)

    def lose_the_worker(audit_id: str) -> None:
        with database.writing() as connection:
            lost = Failure("worker_lost", "it vanished")
            (lease,) = (one for one in running_leases(connection) if one.key == key(audit_id, 0, 0))
            later = scene.now + 60
            take_over_silent(connection, lease, now=later, failure=lost, max_losses=1, backoff=AT_ONCE)

    assert ends(scene.succeed) == ["audit.started", "audit.succeeded"]
    assert ends(scene.fail) == ["audit.failed", "audit.started"]
    error_codes = {json.loads(asked.body)["data"]["error_code"] for asked in receiver.asked}
    assert error_codes == {None, "model_not_loadable"}
    assert ends(scene.cancel, started=False) == ["audit.cancelled"]
    assert ends(cancel_and_abandon) == ["audit.cancelled", "audit.started"]
    assert ends(cancel_and_complete) == ["audit.cancelled", "audit.started"]
    scene.now += 60
    # the sweeper, in the name of a worker that went silent
    assert ends(lose_the_worker) == ["audit.started"]
    scene.now += 60
    scene.sender.send_due()
    assert events_of(receiver)[-1] == "audit.failed"
    assert len({delivery.id for delivery in scene.deliveries(webhook)}) == 11


def test_a_webhook_gets_what_it_asked_for_of_its_tenant(database: Database, receiver: Scripted) -> None:
    scene = Scene(database, prefix(receiver))
    ours = scene.register(f"{receiver.url}/ours", events=("audit.cancelled",))
    others = scene.register(f"{receiver.url}/others", tenant="others")
    scene.register(f"{receiver.url}/failures", events=("audit.failed",))
    scene.ended()
    scene.sender.send_due()
    assert [asked.path for asked in receiver.asked] == ["/ours"]
    scene.ended(tenant="others")
    scene.sender.send_due()
    assert [asked.path for asked in receiver.asked] == ["/ours", "/others"]
    assert (len(scene.deliveries(ours)), len(scene.deliveries(others))) == (1, 1)


def test_two_webhooks_get_one_event_under_one_id(quick: Database, receiver: Scripted) -> None:
    scene = Scene(quick, prefix(receiver))
    for path in "ab":
        scene.register(f"{receiver.url}/{path}")
    scene.ended()
    scene.ended()
    scene.sender.send_due()
    by_path = {path: {one.headers["webhook-id"] for one in receiver.asked if one.path == path} for path in ("/a", "/b")}
    assert by_path["/a"] == by_path["/b"]
    assert len(by_path["/a"]) == 2


def test_there_is_no_event_without_its_commit_and_no_commit_without_its_event(
    database: Database, receiver: Scripted
) -> None:
    scene = Scene(database, prefix(receiver))
    webhook = scene.register(receiver.url)
    audit_id = scene.submit()
    with database.engine.connect().execution_options(auditcore_tenant="default") as connection:
        cancel_audit(connection, audit_id, now=scene.now)
        connection.rollback()
    assert scene.deliveries(webhook) == ()
    # the process that commits sends nothing itself, so it may die right after
    scene.cancel(audit_id)
    scene.database.close()
    survivor = Scene(Database(database.engine.url.render_as_string(hide_password=False)), prefix(receiver))
    assert survivor.sender.send_due() == 1
    assert events_of(receiver) == ["audit.cancelled"]
    survivor.database.close()


def test_a_delivery_of_a_sender_that_died_is_sent_again_after_its_lease(database: Database, receiver: Scripted) -> None:
    scene = Scene(database, prefix(receiver))
    webhook = scene.register(receiver.url)
    scene.ended()
    dead = Attempts(database, clock=lambda: scene.now, jitter=lambda: 0.5)
    (claimed,) = dead.claim([])
    assert scene.sender.send_due() == 0
    scene.now += LEASE_S - 1
    assert scene.sender.send_due() == 0
    scene.now += 2
    receiver.script = lambda asked: Reply(503 if asked.number == 0 else 204, b"")
    assert scene.sender.send_due() == 1
    # it was not dead but slow; what it says now is out of date
    dead.finish(claimed, Answer(404, None))
    delivery = scene.delivery(webhook)
    assert (delivery.state, delivery.attempts, delivery.status) == ("pending", 2, 503)
    scene.now += 400
    assert scene.sender.send_due() == 1
    dead.finish(claimed, Answer(404, None))
    assert (scene.delivery(webhook).state, scene.stored(webhook).failing_since) == ("delivered", None)


@pytest.mark.parametrize("pause", [{}, {"Retry-After": "60"}])
def test_a_clock_that_was_wrong_by_years_delays_nothing_for_years(
    quick: Database, receiver: Scripted, pause: dict[str, str]
) -> None:
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    right = scene.now
    scene.now += 10 * 365 * 86_400.0
    scene.ended()
    receiver.script = lambda asked: Reply(503, b"", headers=pause) if asked.number == 0 else Reply(204, b"")
    assert scene.sender.send_due() == 1
    assert scene.delivery(webhook).state == "pending"
    scene.now = right
    assert scene.sender.send_due() == 1
    assert scene.delivery(webhook).state == "delivered"


def test_two_senders_at_once_send_everything_once(database: Database, receiver: Scripted) -> None:
    scene = Scene(database, prefix(receiver))
    for number in range(6):
        scene.register(f"{receiver.url}/{number}")
    for _ in range(4):
        scene.ended()
    sent: list[int] = []
    both = [threading.Thread(target=lambda: sent.append(scene.another_sender().send_due())) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    received = [(asked.path, asked.headers["webhook-id"]) for asked in receiver.asked]
    assert len(received) == len(set(received)) == sum(sent) == 24


def test_webhooks_may_be_deleted_while_audits_end(database: Database, receiver: Scripted) -> None:
    """Both take the lock of the log first, so that neither waits for the other for ever."""
    scene = Scene(database, prefix(receiver))
    hooks = [scene.register(f"{receiver.url}/{number}") for number in range(8)]
    audits = [scene.submit() for _ in range(8)]
    errors: list[BaseException] = []

    def each(action: Callable[[Any], object], items: list[Any]) -> None:
        try:
            for item in items:
                action(item)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [
        threading.Thread(target=each, args=(scene.cancel, audits)),
        threading.Thread(target=each, args=(lambda hook: scene.webhooks.delete(principal(), hook.id), hooks)),
        threading.Thread(target=each, args=(lambda _: scene.another_sender().send_due(), audits[:3])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.reading() as connection:
        assert connection.execute(select(WEBHOOK_DELIVERIES)).all() == []


def test_a_failure_is_tried_again_with_the_same_id_and_body(quick: Database, receiver: Scripted) -> None:
    receiver.script = lambda asked: Reply(500 if asked.number == 0 else 200)
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    scene.ended()
    assert scene.sender.send_due() == 1
    failed = scene.delivery(webhook)
    assert (failed.state, failed.attempts, failed.status) == ("pending", 1, 500)
    assert failed.error == "the receiver answered with status 500"
    assert failed.next_attempt_at is not None
    assert 5 <= failed.next_attempt_at - scene.now <= 6
    assert scene.stored(webhook).failing_since == scene.now
    scene.now += 4.9
    assert scene.sender.send_due() == 0
    scene.now += 1.2
    assert scene.sender.send_due() == 1
    first, second = receiver.asked
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) in {6, 7}
    Webhook(webhook.secret).verify(second.body, second.headers)
    assert (scene.delivery(webhook).state, scene.delivery(webhook).error) == ("delivered", None)
    assert scene.stored(webhook).failing_since is None


def test_after_ten_attempts_a_delivery_is_given_up(quick: Database, receiver: Scripted) -> None:
    receiver.script = lambda _: Reply(404)
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    scene.ended()
    began = scene.now
    while (at := scene.delivery(webhook).next_attempt_at) is not None:
        scene.now = at
        assert scene.sender.send_due() == 1
    assert scene.delivery(webhook).state == "failed"
    assert len(receiver.asked) == 10
    assert 75 * 3600 < scene.now - began < 91 * 3600
    scene.now += 30 * DAY_S
    assert scene.sender.send_due() == 0
    # three days are not enough to disable it
    assert scene.stored(webhook).disabled_at is None


def test_a_webhook_that_took_nothing_for_five_days_is_disabled(quick: Database, receiver: Scripted) -> None:
    receiver.script = lambda _: Reply(500)
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    since = scene.now
    scene.ended()
    scene.sender.send_due()
    scene.now += 5 * DAY_S + 1
    scene.ended()
    scene.sender.send_due()
    assert scene.stored(webhook).disabled_at is None  # both deliveries have attempts left
    for _ in range(9):
        scene.now += 30 * 3600
        scene.sender.send_due()
    found = scene.stored(webhook)
    assert found.failing_since == since
    assert found.disabled_at is not None
    assert found.disabled_reason is not None
    assert found.disabled_reason.startswith("nothing has arrived since 20")
    assert sorted(one.state for one in scene.deliveries(webhook)) == ["cancelled", "failed"]


def test_gone_disables_the_webhook_and_cancels_what_waits(database: Database, receiver: Scripted) -> None:
    receiver.script = lambda asked: Reply(410 if asked.path == "/gone" else 204, b"")
    scene = Scene(database, prefix(receiver))
    webhook = scene.register(f"{receiver.url}/gone")
    other = scene.register(f"{receiver.url}/there")
    for _ in range(6):
        scene.ended()
    scene.sender.send_due()
    found = scene.stored(webhook)
    assert (found.disabled_at, found.disabled_reason) == (scene.now, "the receiver answered with status 410 (Gone)")
    states = [one.state for one in scene.deliveries(webhook)]
    assert set(states) == {"failed", "cancelled"}
    assert len([asked for asked in receiver.asked if asked.path == "/gone"]) <= attempts.MOST_OF_A_WEBHOOK
    scene.ended()
    scene.now += DAY_S
    scene.sender.send_due()
    assert len(scene.deliveries(webhook)) == 6
    assert [one.state for one in scene.deliveries(other)] == ["delivered"] * 7
    with database.reading("default") as connection:
        entries = [one for one in read_log(connection, limit=99) if one.kind == "webhook"]
    assert [(one.subject, one.data["action"]) for one in entries] == [
        (webhook.id, "created"),
        (other.id, "created"),
        (webhook.id, "disabled"),
    ]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_asks_for_a_pause_gets_one(quick: Database, receiver: Scripted, form: str) -> None:
    scene = Scene(quick, prefix(receiver))
    scene.now = float(int(scene.now))
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(scene.now + 120))
    header = {"Retry-After": "120" if form == "seconds" else date}
    receiver.script = lambda asked: Reply(429, headers=header) if asked.number == 0 else Reply()
    webhook = scene.register(receiver.url)
    scene.ended()
    scene.sender.send_due()
    assert scene.delivery(webhook).next_attempt_at == scene.now + 120
    scene.ended()
    scene.now += 119
    assert scene.sender.send_due() == 0  # new events wait as well
    scene.now += 2
    assert scene.sender.send_due() == 2
    assert {one.state for one in scene.deliveries(webhook)} == {"delivered"}


def test_a_redirect_is_not_followed(quick: Database, receiver: Scripted) -> None:
    with scripted() as inside:
        receiver.script = lambda _: Reply(307, headers={"Location": f"{inside.url}/secret"})
        scene = Scene(quick, prefix(receiver), prefix(inside))
        webhook = scene.register(receiver.url)
        scene.ended()
        scene.sender.send_due()
        assert inside.asked == []
    assert "redirect (307), which is not followed" in (scene.delivery(webhook).error or "")
    assert scene.delivery(webhook).state == "pending"


def hangs(_: Asked) -> Reply:
    return Reply(after_s=1.5)


def closes(_: Asked) -> Reply:
    return Reply(hang_up=True)


@pytest.mark.parametrize(("script", "words"), [(hangs, "no answer came within 0.3 s"), (closes, "no answer came (")])
def test_no_answer_is_a_failure(quick: Database, receiver: Scripted, script: Any, words: str) -> None:
    receiver.script = script
    scene = Scene(quick, prefix(receiver), whole_s=0.3)
    webhook = scene.register(receiver.url)
    scene.ended()
    began = time.monotonic()
    scene.sender.send_due()
    assert time.monotonic() - began < 1.2
    delivery = scene.delivery(webhook)
    assert (delivery.state, delivery.status) == ("pending", None)
    assert words in (delivery.error or "")


def test_nobody_listens(quick: Database) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        scene = Scene(quick, url)
        webhook = scene.register(url)
        scene.ended()
        scene.sender.send_due()
    assert "no answer came (" in (scene.delivery(webhook).error or "")


@contextmanager
def raw_receiver(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A receiver that reads one request and then says what it likes; the URL of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    talk(connection)
                except OSError:  # the client hangs up
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def test_headers_that_trickle_for_ever_are_cut_off(quick: Database) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(100):
            connection.sendall(b".")
            time.sleep(0.05)

    with raw_receiver(trickle) as url:
        scene = Scene(quick, url, whole_s=0.3)
        webhook = scene.register(url)
        scene.ended()
        began = time.monotonic()
        scene.sender.send_due()
        assert time.monotonic() - began < 1.5
    assert scene.delivery(webhook).error == "no answer came within 0.3 s"


def test_of_a_long_answer_only_a_little_is_read(quick: Database) -> None:
    sent = 0

    def boast(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            connection.sendall(bytes(65536))
            sent += 65536

    with raw_receiver(boast) as url:
        scene = Scene(quick, url)
        webhook = scene.register(url)
        scene.ended()
        scene.sender.send_due()
    assert scene.delivery(webhook).state == "delivered"
    assert sent < 2**25  # what the buffers of the two sockets hold


def test_a_slow_body_does_not_undo_a_status(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditcore_service.webhooks.posting.ANSWER_S", 0.1)
    receiver.script = lambda _: Reply(200, b"." * 30, between_s=0.05)
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    scene.ended()
    began = time.monotonic()
    scene.sender.send_due()
    assert time.monotonic() - began < 1.2
    assert scene.delivery(webhook).state == "delivered"


def test_a_receiver_that_never_answers_delays_only_its_own_events(quick: Database, receiver: Scripted) -> None:
    answer = threading.Event()

    def waits(_: Asked) -> Reply:
        answer.wait(10)
        return Reply()

    with scripted(waits) as slow:
        scene = Scene(quick, prefix(slow), prefix(receiver), whole_s=10)
        stuck = scene.register(slow.url)
        for _ in range(6):
            scene.ended()
        scene.register(receiver.url)
        for _ in range(4):
            scene.ended()
        running = threading.Thread(target=scene.sender.send_due)
        running.start()
        _wait_until(lambda: len(receiver.asked) == 4)
        assert len(slow.asked) == attempts.MOST_OF_A_WEBHOOK
        answer.set()
        running.join()
        assert slow.most_at_once == attempts.MOST_OF_A_WEBHOOK
    assert [one.state for one in scene.deliveries(stuck)] == ["delivered"] * 10


def test_a_tenant_with_many_slow_receivers_leaves_connections_to_others(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "MOST_AT_ONCE", 6)
    monkeypatch.setattr(attempts, "MOST_OF_A_TENANT", 4)
    answer = threading.Event()

    def waits(_: Asked) -> Reply:
        answer.wait(10)
        return Reply()

    with scripted(waits) as slow:
        scene = Scene(quick, prefix(slow), prefix(receiver), whole_s=10)
        for number in range(8):
            scene.register(f"{slow.url}/{number}")
        scene.ended()
        scene.register(receiver.url, tenant="others")
        for _ in range(4):
            scene.ended(tenant="others")
        running = threading.Thread(target=scene.sender.send_due)
        running.start()
        _wait_until(lambda: len(receiver.asked) == 4)
        assert len(slow.asked) == 4
        answer.set()
        running.join()
        assert len(slow.asked) == 8


def test_a_name_that_changes_its_address_does_not_lead_inside(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.rpartition(":")[2])
    answers = iter(["1.1.1.1", "127.0.0.1"])

    def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    scene = Scene(quick)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    webhook = scene.register(f"https://rebinding.example:{port}/")
    scene.ended()
    scene.sender.send_due()
    assert "resolves to 127.0.0.1, which is not a public address" in (scene.delivery(webhook).error or "")
    assert receiver.asked == []


def test_a_receiver_that_the_operator_no_longer_allows_gets_nothing(quick: Database, receiver: Scripted) -> None:
    webhook = Scene(quick, prefix(receiver)).register(receiver.url)
    scene = Scene(quick)
    scene.ended()
    scene.sender.send_due()
    assert "AUDIT_WEBHOOK_PREFIXES" in (scene.delivery(webhook).error or "")
    assert receiver.asked == []


@pytest.mark.parametrize("name", ["hooks.example", "other.example"])
def test_https_connects_to_the_checked_address_and_verifies_the_name(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    port = int(receiver.url.rpartition(":")[2])
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    scene = Scene(quick, f"https://{name}:{port}/", trust=trust)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    webhook = scene.register(f"https://{name}:{port}/in")
    scene.ended()
    asked.clear()
    scene.sender.send_due()
    assert asked == [name]  # resolved once, and not again to connect
    if name == "hooks.example":
        assert scene.delivery(webhook).state == "delivered"
        assert [(one.path, one.headers["host"]) for one in receiver.asked] == [("/in", f"hooks.example:{port}")]
    else:
        assert "certificate verify failed" in (scene.delivery(webhook).error or "")
        assert receiver.asked == []


def test_no_proxy_of_the_environment_is_asked(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        scene = Scene(quick, prefix(receiver))
        scene.register(receiver.url)
        scene.ended()
        scene.sender.send_due()
        assert (len(receiver.asked), proxy.asked) == (1, [])


def test_after_a_rotation_both_secrets_verify_for_a_day(quick: Database, receiver: Scripted) -> None:
    scene = Scene(quick, prefix(receiver))
    old = scene.register(receiver.url)
    new = scene.webhooks.rotate(principal(), old.id)
    assert new.secret != old.secret
    scene.ended()
    scene.sender.send_due()
    scene.now += DAY_S
    scene.ended()
    scene.sender.send_due()
    during, after = receiver.asked
    assert len(during.headers["webhook-signature"].split()) == 2
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(during.body, during.headers)
    assert len(after.headers["webhook-signature"].split()) == 1


def test_the_background_sender_hears_of_new_events_and_stops_in_time(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "DRAIN_S", 0.1)
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    running = WebhookSender(scene.settings.model_copy(update={"webhook_poll_s": 3600.0}), database=quick)
    running.start()
    try:
        time.sleep(0.1)  # it has looked, and found nothing
        scene.webhooks.ping(principal(), webhook.id)
        running.wake()
        _wait_until(lambda: events_of(receiver) == ["ping"])
        _wait_until(lambda: scene.delivery(webhook).state == "delivered")
        receiver.script = hangs
        scene.ended()
        running.wake()
        _wait_until(lambda: len(receiver.asked) == 2)
    finally:
        began = time.monotonic()
        running.stop()
    assert time.monotonic() - began < 1.2
    assert {one.event: one.state for one in scene.deliveries(webhook)} == {
        "ping": "delivered",
        "audit.cancelled": "pending",
    }


def test_the_background_sender_survives_a_database_that_is_away(
    quick: Database, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(quick, prefix(receiver))
    scene.register(receiver.url)
    scene.ended()
    real, calls = Attempts.claim, []

    def claim(self: Attempts, under_way: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            msg = "the database restarts"
            raise ConnectionError(msg)
        return real(self, under_way)

    monkeypatch.setattr(Attempts, "claim", claim)
    running = WebhookSender(scene.settings.model_copy(update={"webhook_poll_s": 0.02}), database=quick)
    running.start()
    try:
        _wait_until(lambda: len(receiver.asked) == 1)
    finally:
        running.stop()


def test_old_deliveries_are_forgotten_unless_they_wait(quick: Database, receiver: Scripted) -> None:
    scene = Scene(quick, prefix(receiver))
    webhook = scene.register(receiver.url)
    scene.ended()
    scene.sender.send_due()
    receiver.script = lambda _: Reply(500)
    scene.ended()
    scene.sender.send_due()
    for later, kept in ((KEPT_S, 2), (KEPT_S + 1, 1)):
        with quick.writing() as connection:
            forget_deliveries(connection, now=scene.now + later)
            assert len(list_deliveries(connection, webhook.id, after=None, limit=9)) == kept
            assert count_deliveries(connection)["pending"] == 1


def _wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
