"""Limits on requests: of a tenant, of one principal, and of an address that guesses credentials."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import http_sf
import httpx
import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from limits.storage import MemoryStorage

from auditcore.client import Client
from auditcore_service.cli.outcome import CommandError
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import Principal, Scope
from auditcore_service.settings import Settings
from auditcore_service.store.tenants import set_tenant
from auditcore_service.use_cases import request_rates
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.request_rates import Count, _Counters, _origin
from commands_in_process import client_of
from in_process import InProcess
from queues import ONLY_REDIS, QUEUE_KINDS

EVERYTHING = frozenset[Scope](get_args(Scope))

USAGE = "/v1/usage"
"""A route that is counted."""


@pytest.fixture
def gateway(make_settings: Callable[..., Settings]) -> Callable[..., Any]:
    """Makes gateways of one service that asks for credentials; keywords are settings."""
    SECRETS.clear()

    @contextmanager
    def make(**settings: Any) -> Iterator[TestClient]:
        app = create_app(make_settings(authentication="required", **settings))
        with TestClient(app) as client:
            yield client

    return make


SECRETS = dict[str, str]()
"""`TENANT/NAME` -> API key of this name."""


def secret(client: TestClient, who: str) -> str:
    if who not in SECRETS:
        tenant, name = who.split("/")
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        operator = Principal(tenant, None, EVERYTHING)
        SECRETS[who] = service.api_keys.create(operator, name=name, scopes=EVERYTHING, expires_at=None)[1]
    return SECRETS[who]


def ask(client: TestClient, credentials: str | None = "research/ann", path: str = USAGE) -> httpx.Response:
    """Ask with the API key of `TENANT/NAME`, with other credentials, or with none."""
    if credentials is not None and "/" in credentials:
        credentials = secret(client, credentials)
    return client.get(path, headers={} if credentials is None else {"Authorization": f"Bearer {credentials}"})


def standing(answer: httpx.Response) -> dict[str, tuple[int, int, int, int]]:
    """Policy -> quota, window, remaining, and seconds until the window ends, as a library reads structured fields."""
    policies, counts = (
        {str(item): {name: int(value) for name, value in parameters.items()} for item, parameters in parsed}
        for parsed in (
            http_sf.parse(answer.headers[field].encode(), tltype="list") for field in ("RateLimit-Policy", "RateLimit")
        )
    )
    assert list(policies) == list(counts)
    return {name: (policies[name]["q"], policies[name]["w"], counts[name]["r"], counts[name]["t"]) for name in policies}


@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_every_answer_says_where_the_limit_stands_until_it_is_reached(gateway: Callable[..., Any]) -> None:
    with gateway(requests_per_minute=4) as client:
        answers = [ask(client), ask(client, path="/v1/catalogue"), ask(client), ask(client)]
        refused = ask(client)
        assert [answer.status_code for answer in answers] == 4 * [200]
        for left, answer in zip((3, 2, 1, 0, 0), (*answers, refused), strict=True):
            ((name, (quota, window, remaining, seconds)),) = standing(answer).items()
            assert (name, quota, window, remaining) == ("tenant", 4, 60, left)
            assert 55 < seconds <= 60
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == str(standing(refused)["tenant"][3])
        problem = refused.json()
        assert problem["code"] == "too_many_requests"
        assert "tenant 'research' has sent more than the 4 requests allowed in 60 seconds; wait " in problem["detail"]
        # another tenant has its own count, and what watches the service is not counted
        assert standing(ask(client, "other/bob"))["tenant"][2] == 3
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            free = ask(client, path=path)
            assert (free.status_code, "RateLimit" in free.headers) == (200, False), path


@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_one_principal_cannot_use_up_what_its_tenant_may(gateway: Callable[..., Any]) -> None:
    with gateway(requests_per_minute=9, principal_requests_per_minute=2) as client:
        answers = [ask(client) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [standing(answer)["principal"][2] for answer in answers] == [1, 0, 0]
        assert [standing(answer)["tenant"][2] for answer in answers] == [8, 7, 6]
        assert "'key:ann' has sent more than the 2 requests" in answers[2].json()["detail"]
        assert ask(client, "research/bob").status_code == 200
        # a tenant cannot take the place of another by the name of a principal
        assert ask(client, "other/ann").status_code == 200


def test_a_service_without_limits_counts_nothing(client: TestClient) -> None:
    answer = client.get(USAGE)
    assert answer.status_code == 200
    assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)
    assert answer.json()["requests_per_minute"] == {"limit": None, "used": None, "resets_at": None}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/audits/nothing", 404),
        ("/v1/audits?limit=0", 422),
        # an answer that the route makes itself
        ("/v1/policies/quick-look@1.0.0", 200),
        # a route whose dependencies want the principal too
        ("/v1/audits/nothing/events", 404),
    ],
)
def test_every_answer_has_the_fields_and_every_request_counts_once(
    gateway: Callable[..., Any], path: str, status: int
) -> None:
    with gateway(requests_per_minute=5) as client:
        answer = ask(client, path=path)
        assert (answer.status_code, standing(answer)["tenant"][2]) == (status, 4)


@pytest.mark.parametrize("queue_kind", ONLY_REDIS)
def test_two_gateways_share_the_counts_and_a_window_ends(gateway: Callable[..., Any], redis_url: str) -> None:
    with gateway(requests_per_minute=3) as one, gateway(requests_per_minute=3) as other:
        assert [ask(client).status_code for client in (one, other, one, other, one)] == [200, 200, 200, 429, 429]
        with redis.Redis.from_url(redis_url) as store:
            (key,) = store.keys("auditcore-requests:*")
            assert 0 < store.ttl(key) <= 60
            store.pexpire(key, 20)
        time.sleep(0.05)
        assert standing(ask(other))["tenant"][2] == 2


def test_without_redis_each_gateway_counts_on_its_own(
    gateway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"queue": "database", "redis_url": None, "requests_per_minute": 1}
    with gateway(**settings) as one, gateway(**settings) as other:
        assert [ask(client).status_code for client in (one, other, one, other)] == [200, 200, 429, 429]
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        assert ask(one).status_code == 200


@dataclasses.dataclass
class SilentRedis:
    """Takes connections and never says a word, like a stopped Redis."""

    url: str
    connections: list[socket.socket]


@pytest.fixture
def silent_redis() -> Iterator[SilentRedis]:
    path = Path(tempfile.mkdtemp(prefix="silent-")) / "redis.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        silent = SilentRedis(f"unix://{path}", [])

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    silent.connections.append(listener.accept()[0])

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        yield silent
        listener.shutdown(socket.SHUT_RDWR)
        taking.join()
    for connection in silent.connections:
        connection.close()
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("queue_kind", ONLY_REDIS)
def test_a_redis_that_does_not_answer_is_waited_for_once(
    gateway: Callable[..., Any], silent_redis: SilentRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_rates, "TIMEOUT_S", 0.3)
    with gateway(requests_per_minute=6, redis_url=silent_redis.url) as client:
        assert ask(client).status_code == 200
        waited_for = len(silent_redis.connections)
        assert waited_for > 0
        assert [ask(client).status_code for _ in range(6)] == [*5 * [200], 429]
        assert len(silent_redis.connections) == waited_for


class PausingStorage(MemoryStorage):
    """Gives other threads a turn where the library reads what it has just counted."""

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        super().incr(key, expiry, amount)
        time.sleep(0.0002)
        return self.get(key)


@pytest.mark.parametrize("storage", QUEUE_KINDS)
def test_of_requests_at_the_same_time_exactly_the_allowed_pass(storage: str, request: pytest.FixtureRequest) -> None:
    counters = _Counters(request.getfixturevalue("redis_url") if storage == "redis" else None)
    counters._own = PausingStorage()
    counts = list[Count]()
    start = threading.Barrier(8)

    def hit() -> None:
        start.wait()
        for _ in range(25):
            counts.append(counters.hit("tenant", 120, request.node.name))

    threads = [threading.Thread(target=hit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters.close()
    assert sum(not count.exceeded for count in counts) == 120


def test_a_limit_of_a_tenant_is_in_force_after_some_seconds(
    gateway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway() as client:
        assert "RateLimit" not in ask(client).headers
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        with service.database.writing("research") as connection:
            set_tenant(connection, "research", {"requests_per_minute": 7}, now=1.0)
        assert "RateLimit" not in ask(client).headers
        monkeypatch.setattr(request_rates, "LIMITS_KEPT_S", 0.0)
        assert standing(ask(client))["tenant"][:3] == (7, 60, 6)
        assert "RateLimit" not in ask(client, "other/bob").headers


@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_credentials_cannot_be_guessed_at_full_speed(
    gateway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = list[str | None]()
    look = Authentication.principal

    def watched(self: Authentication, authorization: str | None) -> Principal:
        tried.append(authorization)
        return look(self, authorization)

    monkeypatch.setattr(Authentication, "principal", watched)
    with gateway(failed_authentications_per_minute=3) as client:
        assert ask(client, "research/ann").status_code == 200
        guesses = [ask(client, guess) for guess in ("a", None, "b", "c", "research/bob")]
        assert [answer.status_code for answer in guesses] == [401, 401, 401, 429, 429]
        assert [standing(answer)["failures"][2] for answer in guesses] == [2, 1, 0, 0, 0]
        assert tried == [f"Bearer {SECRETS['research/ann']}", "Bearer a", None, "Bearer b"]
        refused = guesses[3]
        assert refused.json()["code"] == "too_many_requests"
        assert "3 requests without valid credentials within 60 seconds" in refused.json()["detail"]
        assert refused.headers["retry-after"] == str(standing(refused)["failures"][3])
        # clients that worked from the same address go on
        assert ask(client, "research/ann").status_code == 200
        assert client.get("/livez").status_code == 200


def test_a_revoked_key_is_counted_like_a_wrong_one(gateway: Callable[..., Any]) -> None:
    with gateway(failed_authentications_per_minute=2) as client:
        assert ask(client).status_code == 200
        keys = client.app.state.service.api_keys
        owner = Principal("research", None, EVERYTHING)
        keys.revoke(owner, keys.page(owner, cursor=None, limit=1)[0][0].id)
        assert [ask(client).status_code for _ in range(4)] == [401, 401, 429, 429]


def test_other_addresses_are_not_affected(gateway: Callable[..., Any]) -> None:
    with gateway(failed_authentications_per_minute=1) as client:
        app: FastAPI = client.app  # type: ignore[assignment]
        there = TestClient(app, client=("192.0.2.7", 1))
        assert [ask(client, "a").status_code for _ in range(2)] == [401, 429]
        assert ask(there, "a").status_code == 401


def test_the_limit_on_guesses_can_be_lifted(gateway: Callable[..., Any]) -> None:
    with gateway(failed_authentications_per_minute=None) as client:
        answers = [ask(client, "a") for _ in range(40)]
        assert {answer.status_code for answer in answers} == {401}
        assert "RateLimit" not in answers[0].headers


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        (None, "local"),
    ],
)
def test_a_network_of_one_client_is_one_origin(address: str | None, origin: str) -> None:
    assert _origin(address) == origin


def test_requests_used_are_told(gateway: Callable[..., Any]) -> None:
    with gateway(requests_per_minute=5) as client:
        first, second = (ask(client).json()["requests_per_minute"] for _ in range(2))
    assert (first["limit"], first["used"], second["used"]) == (5, 1, 2)
    assert first["resets_at"] > "2026"


def submit(commands: Client) -> str:
    images = {"kind": "inline", "images": [{"data": "eA=="}]}
    return commands.submit({"model": {"kind": "demo"}, "images": images, "plan": {"preset": "quick"}}).id


def test_the_command_line_waits_as_long_as_it_is_told(gateway: Callable[..., Any]) -> None:
    waits = list[float]()
    with gateway(queue="database", redis_url=None, requests_per_minute=1) as client:
        client.headers["Authorization"] = f"Bearer {secret(client, 'research/ann')}"
        service: Service = client.app.state.service  # type: ignore[attr-defined]

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            service.rates._counters._own.reset()

        with client_of(InProcess(client), sleep=sleep) as commands:
            audit_id = submit(commands)
            assert waits == []
            assert commands.status(audit_id).id == audit_id
            assert len(waits) == 1
            assert 50 < waits[0] <= 60


def test_the_command_line_does_not_wait_for_a_quota(gateway: Callable[..., Any]) -> None:
    with gateway(running_audits=0) as client:
        client.headers["Authorization"] = f"Bearer {secret(client, 'research/ann')}"
        refused = "Too Many Requests: tenant 'research' has 0 audits, trainings and experiments that wait"
        with pytest.raises(CommandError, match=refused), client_of(InProcess(client), sleep=pytest.fail) as commands:
            submit(commands)
