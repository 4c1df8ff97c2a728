"""`/v1/webhooks`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from standardwebhooks import Webhook

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.use_cases.refusals import NotFound
from auditcore_service.use_cases.webhooks import MOST_WEBHOOKS
from scripted_server import Reply, Scripted, scripted

OTHER = Principal("others", "Bea", frozenset({"webhooks:write"}))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
AUDIT = {
    "model": {"kind": "demo"},
    "images": {"kind": "inline", "images": [{"data": PIXEL}]},
    "plan": {"preset": "quick"},
}


@pytest.fixture
def receiver() -> Iterator[Scripted]:
    with scripted(lambda _: Reply(204, b"")) as server:
        yield server


@pytest.fixture
def gateway(make_settings: Callable[..., Settings], receiver: Scripted, database_url: str) -> Iterator[TestClient]:
    settings = make_settings(
        webhook_prefixes=(f"{receiver.url}/",), webhook_poll_s=0.05, database_url=SecretStr(database_url)
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def body(receiver: Scripted, **changes: Any) -> dict[str, Any]:
    return {"url": f"{receiver.url}/hook", "events": ["audit.cancelled"], **changes}


def create(client: TestClient, receiver: Scripted, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json=body(receiver, **changes))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_webhook_lives_from_creation_to_deletion(gateway: TestClient, receiver: Scripted) -> None:
    answer = gateway.post("/v1/webhooks", json=body(receiver, description="the pipeline"))
    created, webhook = answer.json(), answer.json()["webhook"]
    assert answer.headers["location"] == webhook["links"]["self"] == f"/v1/webhooks/{webhook['id']}"
    assert created["secret"].startswith("whsec_")
    assert (webhook["url"], webhook["events"]) == (f"{receiver.url}/hook", ["audit.cancelled"])
    assert (webhook["description"], webhook["disabled_at"], created["previous_until"]) == ("the pipeline", None, None)

    ping = gateway.post(webhook["links"]["ping"])
    assert (ping.status_code, ping.json()["event"], ping.json()["state"]) == (202, "ping", "pending")
    audit = gateway.post("/v1/audits", json=AUDIT).json()
    assert gateway.post(audit["links"]["cancel"]).json()["state"] == "cancelled"
    events = [Webhook(created["secret"]).verify(asked.body, asked.headers) for asked in _wait_for(receiver, 2)]
    by_type = {event["type"]: event["data"] for event in events}
    assert by_type["ping"] == {"webhook_id": webhook["id"]}
    assert by_type["audit.cancelled"]["audit_id"] == audit["id"]
    assert gateway.get(by_type["audit.cancelled"]["links"]["self"]).json()["state"] == "cancelled"
    deadline = time.monotonic() + 10
    while not all(one["state"] == "delivered" for one in gateway.get(webhook["links"]["deliveries"]).json()["items"]):
        assert time.monotonic() < deadline
    newest, oldest = gateway.get(webhook["links"]["deliveries"]).json()["items"]
    assert (newest["audit_id"], newest["status"], newest["attempts"]) == (audit["id"], 204, 1)
    assert (oldest["event"], oldest["id"]) == ("ping", ping.json()["id"])

    for path in (webhook["links"]["self"], "/v1/webhooks", webhook["links"]["deliveries"]):
        shown = gateway.get(path)
        assert shown.status_code == 200
        assert "secret" not in shown.text
        assert created["secret"] not in shown.text
    assert gateway.delete(webhook["links"]["self"]).status_code == 204
    for path in (webhook["links"]["self"], webhook["links"]["deliveries"]):
        assert gateway.get(path).json()["code"] == "not_found"
    assert gateway.get("/v1/webhooks").json() == {"items": []}
    entries = [one for one in gateway.get("/v1/log").json()["items"] if one["kind"] == "webhook"]
    assert [(one["subject"], one["data"]["action"]) for one in entries] == [
        (webhook["id"], "created"),
        (webhook["id"], "deleted"),
    ]
    assert entries[0]["data"] == {"action": "created", "host": "127.0.0.1", "events": ["audit.cancelled"]}
    assert 'auditcore_webhook_deliveries{state="delivered"}' not in gateway.get("/metrics").text


def test_a_rotation_shows_a_new_secret_once_and_is_logged(gateway: TestClient, receiver: Scripted) -> None:
    created = create(gateway, receiver)
    rotated = gateway.post(created["webhook"]["links"]["rotate"]).json()
    assert rotated["secret"] != created["secret"]
    assert rotated["previous_until"] > created["webhook"]["created_at"]
    gateway.post(created["webhook"]["links"]["ping"])
    (asked,) = _wait_for(receiver, 1)
    for secret in (created["secret"], rotated["secret"]):
        Webhook(secret).verify(asked.body, asked.headers)
    actions = [one["data"]["action"] for one in gateway.get("/v1/log").json()["items"] if one["kind"] == "webhook"]
    assert actions == ["created", "rotated"]


def test_of_another_tenant_there_is_nothing(gateway: TestClient, receiver: Scripted) -> None:
    webhooks = service_of(gateway).webhooks
    theirs = webhooks.register(OTHER, url=receiver.url, events=("audit.cancelled",), description="")
    links = [f"/v1/webhooks/{theirs.id}{rest}" for rest in ("", "/deliveries")]
    answers = [
        *(gateway.get(link) for link in links),
        gateway.delete(links[0]),
        *(gateway.post(f"{links[0]}/{action}") for action in ("rotate", "ping")),
    ]
    unknown = gateway.get(f"/v1/webhooks/wh_{0:032}").json()["detail"]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["detail"].replace(theirs.id, f"wh_{0:032}") == unknown
    assert gateway.get("/v1/webhooks").json() == {"items": []}
    assert webhooks.get(OTHER, theirs.id) == theirs
    ours = create(gateway, receiver)["webhook"]["id"]
    with pytest.raises(NotFound):
        webhooks.get(OTHER, ours)
    assert [one.id for one in webhooks.list(OTHER)] == [theirs.id]


def test_deliveries_are_listed_page_by_page(gateway: TestClient, receiver: Scripted) -> None:
    links = create(gateway, receiver)["webhook"]["links"]
    sent = [gateway.post(links["ping"]).json()["id"] for _ in range(5)]
    found, path = [], f"{links['deliveries']}?limit=2"
    while path:
        answer = gateway.get(path)
        found += [one["id"] for one in answer.json()["items"]]
        assert len(found) <= 5
        following = answer.json()["next_cursor"]
        assert ("link" in answer.headers) == (following is not None)
        path = following and f"{links['deliveries']}?limit=2&cursor={following}"
    assert found == sent[::-1]
    assert gateway.get(f"{links['deliveries']}?cursor=mine").json()["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"url": "http://pipeline.example/"}, "#/url", "not behind https"),
        ({"url": "https://127.0.0.1/"}, "#/url", "AUDIT_WEBHOOK_PREFIXES"),
        ({"url": "https://no-such-host.invalid/"}, "#/url", "cannot be resolved"),
        ({"url": "https://user:pass@pipeline.example/"}, "#/url", "credentials"),
        ({"url": "https://pipeline.example/" + 3000 * "a"}, "#/url", "2048"),
        ({"url": None}, "#/url", "string"),
        ({"events": []}, "#/events", "at least 1"),
        ({"events": ["audit.deleted"]}, "#/events/0", "audit.started"),
        ({"events": ["ping"]}, "#/events/0", "audit.started"),
        ({"description": "two\nlines"}, "#/description", "pattern"),
        ({"secret": "whsec_mine"}, "#/secret", "remove it"),
    ],
)
def test_a_mistake_is_found_where_it_is(client: TestClient, changes: Any, pointer: str, words: str) -> None:
    sent = {"url": "https://pipeline.example/", "events": ["audit.failed"], **changes}
    answer = client.post("/v1/webhooks", json=sent)
    assert answer.status_code == 422
    (found,) = answer.json()["errors"]
    assert found["pointer"] == pointer
    assert words in found["detail"]
    assert client.get("/v1/webhooks").json() == {"items": []}
    assert all(one["kind"] != "webhook" for one in client.get("/v1/log").json()["items"])


@pytest.mark.parametrize("webhook_id", ["mine", f"wh_{0:032}", "%00", "wh_%F0%9F%98%80"])
def test_what_is_not_registered_is_not_found(client: TestClient, webhook_id: str) -> None:
    assert client.get(f"/v1/webhooks/{webhook_id}").json()["code"] == "not_found"
    assert client.delete(f"/v1/webhooks/{webhook_id}").json()["code"] == "not_found"
    assert client.post(f"/v1/webhooks/{webhook_id}/ping").json()["code"] == "not_found"


def test_a_tenant_has_only_so_many(gateway: TestClient, receiver: Scripted) -> None:
    for _ in range(MOST_WEBHOOKS):
        last = create(gateway, receiver)
    refused = gateway.post("/v1/webhooks", json=body(receiver))
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
    assert len(gateway.get("/v1/webhooks").json()["items"]) == MOST_WEBHOOKS
    gateway.delete(last["webhook"]["links"]["self"])
    create(gateway, receiver)


def test_a_disabled_webhook_says_why_and_gets_no_test_event(gateway: TestClient, receiver: Scripted) -> None:
    receiver.script = lambda _: Reply(410)
    links = create(gateway, receiver)["webhook"]["links"]
    gateway.post(links["ping"])
    deadline = time.monotonic() + 10
    while (found := gateway.get(links["self"]).json())["disabled_at"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found["disabled_reason"] == "the receiver answered with status 410 (Gone)"
    refused = gateway.post(links["ping"])
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")
    assert found["disabled_reason"] in refused.json()["detail"]
    assert 'auditcore_webhook_deliveries{state="failed"} 1.0' in gateway.get("/metrics").text


def _wait_for(receiver: Scripted, count: int) -> list[Any]:
    deadline = time.monotonic() + 10
    while len(receiver.asked) < count:
        assert time.monotonic() < deadline, receiver.asked
        time.sleep(0.01)
    return receiver.asked
