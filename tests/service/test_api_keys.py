"""`/v1/api-keys`, and what a service that requires authentication answers to whom."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import anyio
import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.types import Message
from structlog.testing import capture_logs

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ROLES, SCOPES, Principal, Scope, operator
from auditcore_service.settings import Settings
from auditcore_service.store.api_keys import find_api_key
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import read_log
from auditcore_service.use_cases.api_key_secrets import PATTERN, digest_of_secret, key_id_in, new_secret
from auditcore_service.use_cases.api_keys import ApiKeys
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import CredentialsInvalid

both_databases = pytest.mark.usefixtures("database_url")

DAY_S = 86_400.0


@pytest.fixture
def gate(make_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A gateway that requires authentication; on both databases if a test uses `database_url`."""
    overrides: dict[str, object] = {"authentication": "required"}
    if "database_url" in request.fixturenames:
        overrides["database_url"] = SecretStr(request.getfixturevalue("database_url"))
    with TestClient(create_app(make_settings(**overrides)), raise_server_exceptions=False) as opened:
        yield opened


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def key(client: TestClient, *scopes: Scope, tenant: str = "default", name: str | None = None) -> dict[str, str]:
    """Headers with a new key of the operator's making."""
    name = name or f"k{len(scopes)}-{new_secret().key_id}"
    _, secret = service_of(client).api_keys.create(operator(tenant), name=name, scopes=scopes, expires_at=None)
    return bearer(secret)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def body(**changes: Any) -> dict[str, Any]:
    return {"name": "nightly", "scopes": ["audits:read"], "expires_at": None, **changes}


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


@both_databases
def test_a_key_is_made_used_rotated_and_revoked(gate: TestClient) -> None:
    admin = key(gate, "keys:admin", "audits:read", name="first")
    made = gate.post("/v1/api-keys", json=body(expires_at=in_days(90)), headers=admin)
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    entry, secret = made.json()["api_key"], made.json()["secret"]
    assert made.headers["location"] == f"/v1/api-keys/{entry['id']}"
    assert secret.startswith(f"{entry['prefix']}_")
    assert (entry["created_by"], entry["revoked_at"], entry["last_used_at"]) == ("key:first", None, None)
    assert gate.get("/v1/catalogue", headers=bearer(secret)).status_code == 200

    rotated = gate.post(f"/v1/api-keys/{entry['id']}/rotate", json={}, headers=admin)
    assert rotated.status_code == 200
    assert rotated.headers["cache-control"] == "no-store"
    new = rotated.json()["secret"]
    assert new != secret
    assert rotated.json()["api_key"]["prefix"] == entry["prefix"]
    assert rotated.json()["api_key"]["previous_until"] is not None
    for accepted in (secret, new):
        assert gate.get("/v1/catalogue", headers=bearer(accepted)).status_code == 200

    revoked = gate.post(f"/v1/api-keys/{entry['id']}/revoke", headers=admin)
    assert revoked.status_code == 200
    again = gate.post(f"/v1/api-keys/{entry['id']}/revoke", headers=admin)
    assert again.json() == revoked.json()
    for refused in (secret, new):
        answer = gate.get("/v1/catalogue", headers=bearer(refused))
        assert answer.status_code == 401
        assert "revoked" in answer.json()["detail"]
    ended = gate.post(f"/v1/api-keys/{entry['id']}/rotate", json={}, headers=admin)
    assert (ended.status_code, ended.json()["code"]) == (409, "api_key_ended")

    listed = gate.get("/v1/api-keys", headers=admin).json()["items"]
    assert [one["name"] for one in listed] == ["nightly", "first"]
    assert gate.get(f"/v1/api-keys/{entry['id']}", headers=admin).json() == listed[0]

    with service_of(gate).database.reading("default") as connection:
        entries = [one for one in read_log(connection, limit=99) if one.subject == entry["prefix"]]
    assert [(one.kind, one.principal, one.data["action"]) for one in entries] == [
        ("api_key", "key:first", "created"),
        ("api_key", "key:first", "rotated"),
        ("api_key", "key:first", "revoked"),
    ]
    assert entries[0].data["scopes"] == ["audits:read"]
    texts = json.dumps([one.model_dump() for one in entries]) + json.dumps(listed)
    assert secret not in texts
    assert new not in texts
    assert digest_of_secret(secret) not in texts


def test_no_secret_is_on_the_disk(gate: TestClient) -> None:
    secret = key(gate, "audits:read")["Authorization"].removeprefix("Bearer ")
    assert gate.get("/v1/catalogue", headers=bearer(secret)).status_code == 200
    service = service_of(gate)
    files = [path for path in service.settings.data_dir.rglob("*") if path.is_file()]
    contents = b"".join(path.read_bytes() for path in files)
    assert digest_of_secret(secret).encode() in contents
    assert secret.encode() not in contents
    assert secret[len("ac_12345678_") :].encode() not in contents


@pytest.mark.parametrize(
    ("sent", "code", "challenge"),
    [
        (None, "credentials_missing", 'Bearer realm="auditcore"'),
        ("", "credentials_missing", 'Bearer realm="auditcore"'),
        ("Bearer", "credentials_missing", 'Bearer realm="auditcore"'),
        ("Basic dXNlcjpwYXNz", "credentials_missing", 'Bearer realm="auditcore"'),
        ("Bearer secret", "credentials_invalid", 'Bearer realm="auditcore", error="invalid_token"'),
        (f"Bearer {new_secret().text}", "credentials_invalid", 'Bearer realm="auditcore", error="invalid_token"'),
        (f"Bearer {new_secret().text[:-1]}", "credentials_invalid", 'Bearer realm="auditcore", error="invalid_token"'),
        ("Bearer ac_\xff", "credentials_invalid", 'Bearer realm="auditcore", error="invalid_token"'),
    ],
)
def test_strangers_get_401_and_are_told_how_to_become_known(
    gate: TestClient, sent: str | None, code: str, challenge: str
) -> None:
    headers = {} if sent is None else {"Authorization": sent.encode("latin-1")}
    answer = gate.get("/v1/catalogue", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == challenge
    assert answer.json()["code"] == code
    assert re.search(r"auditcore keys create|operator|copy it again", answer.json()["detail"])


def test_a_secret_of_another_key_with_the_right_id_is_refused(gate: TestClient) -> None:
    secret = key(gate, "audits:read")["Authorization"].removeprefix("Bearer ")
    forged = new_secret(key_id_in(secret)).text
    assert key_id_in(forged) == key_id_in(secret)
    answer = gate.get("/v1/catalogue", headers=bearer(forged))
    assert answer.status_code == 401
    assert "unknown" in answer.json()["detail"]


def test_only_health_documentation_and_public_keys_answer_everybody(gate: TestClient) -> None:
    for path in ("/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js", "/v1/keys"):
        assert gate.get(path).status_code == 200, path
    for method, path in (("GET", "/v1/nothing"), ("GET", "/metrics"), ("POST", "/v1/keys"), ("GET", "/v1/keys/x")):
        assert gate.request(method, path).status_code == 401, path


def test_every_operation_that_declares_credentials_needs_them_and_no_other(gate: TestClient) -> None:
    """The document is what clients are generated from; it must not promise another service than this."""
    document = gate.get("/openapi.json").json()
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    protected = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            asked = re.sub(r"\{\w+\}", "x", path)
            status = gate.request(method.upper(), asked).status_code
            declared = "security" in operation
            assert (status == 401) == declared, (method, path, status)
            protected += declared
            if declared:
                assert "www-authenticate" in {name.lower() for name in operation["responses"]["401"]["headers"]}
                (scopes,) = (one["bearer"] for one in operation["security"])
                assert set(scopes) <= set(SCOPES)
                assert ("403" in operation["responses"]) == bool(scopes)
    assert protected > 25


def test_a_request_of_a_stranger_is_refused_unread(gate: TestClient) -> None:
    """Neither its size nor its mistakes are looked at."""
    sent: list[Message] = []

    async def receive() -> NoReturn:
        pytest.fail("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/audits",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"1000")],
    }
    anyio.run(gate.app, scope, receive, send)
    assert sent[0]["status"] == 401
    assert json.loads(sent[1]["body"])["code"] == "credentials_missing"


def test_a_missing_scope_is_named(gate: TestClient) -> None:
    answer = gate.get("/v1/api-keys", headers=key(gate, "audits:read", "audits:write"))
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["code"] == "scope_missing"
    assert "keys:admin" in problem["detail"]
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="auditcore", error="insufficient_scope", scope="keys:admin"'
    )


def test_nobody_gives_away_what_they_lack(gate: TestClient) -> None:
    admin = key(gate, "keys:admin", "audits:read")
    asked = gate.post("/v1/api-keys", json=body(scopes=["audits:read", "audits:delete", "log:read"]), headers=admin)
    assert (asked.status_code, asked.json()["code"]) == (403, "scope_missing")
    assert asked.json()["errors"][0]["pointer"] == "#/scopes"
    assert "audits:delete, log:read" in asked.json()["detail"]
    # a rotation shows the secret of a key, and with it what the key may do
    stronger = key(gate, "audits:delete")["Authorization"].removeprefix("Bearer ")
    rotated = gate.post(f"/v1/api-keys/{key_id_in(stronger)}/rotate", json={}, headers=admin)
    assert (rotated.status_code, rotated.json()["code"]) == (403, "scope_missing")
    assert gate.get("/v1/catalogue", headers=bearer(stronger)).status_code == 200
    # to take something away needs no more than the right to administer
    assert gate.post(f"/v1/api-keys/{key_id_in(stronger)}/revoke", headers=admin).status_code == 200


@both_databases
def test_keys_of_another_tenant_do_not_exist(gate: TestClient) -> None:
    ours = key(gate, "keys:admin", tenant="ours")
    # with a scope that we lack, which must not show either
    theirs = key(gate, "keys:admin", "audits:delete", tenant="theirs", name="secret-plan")
    key_id = key_id_in(theirs["Authorization"].removeprefix("Bearer "))
    calls = (("GET", ""), ("POST", "/rotate"), ("POST", "/revoke"))
    answers = [gate.request(method, f"/v1/api-keys/{key_id}{end}", json={}, headers=ours) for method, end in calls]
    unknown = [gate.request(method, f"/v1/api-keys/abcdefgh{end}", json={}, headers=ours) for method, end in calls]
    for one, other in zip(answers, unknown, strict=True):
        assert one.status_code == other.status_code == 404
        assert one.json()["detail"].replace(str(key_id), "X") == other.json()["detail"].replace("abcdefgh", "X")
    assert "secret-plan" not in gate.get("/v1/api-keys", headers=ours).text
    # the same name is free in another tenant
    made = gate.post("/v1/api-keys", json=body(name="secret-plan", scopes=["keys:admin"]), headers=ours)
    assert made.status_code == 201
    assert gate.get("/v1/api-keys", headers=theirs).json()["items"][0]["name"] == "secret-plan"


def test_postgresql_itself_hides_keys_of_other_tenants(new_postgres_url: str) -> None:
    """Row-level security, as a role that is no superuser: a forgotten condition shows nothing."""
    database = Database(new_postgres_url)
    try:
        database.migrate()
        for tenant in ("ours", "theirs"):
            ApiKeys(database=database).create(operator(tenant), name="k", scopes=["audits:read"], expires_at=None)
        query = sqlalchemy.text("SELECT tenant FROM api_keys ORDER BY tenant")
        with database.writing() as connection:
            connection.execute(sqlalchemy.text("DROP ROLE IF EXISTS key_reader"))
            connection.execute(sqlalchemy.text("CREATE ROLE key_reader"))
            connection.execute(sqlalchemy.text("GRANT SELECT ON api_keys TO key_reader"))
        for tenant, seen in (("ours", ["ours"]), ("*", ["ours", "theirs"]), ("", [])):
            with database.reading(tenant) as connection:
                connection.execute(sqlalchemy.text("SET LOCAL ROLE key_reader"))
                assert connection.execute(query).scalars().all() == seen
        with database.writing() as connection:
            connection.execute(sqlalchemy.text("DROP OWNED BY key_reader"))
            connection.execute(sqlalchemy.text("DROP ROLE key_reader"))
    finally:
        database.close()


@pytest.mark.parametrize(
    ("sent", "status", "pointer", "words"),
    [
        (body(scopes=[]), 422, "#/scopes", "at least 1"),
        (body(scopes=["audits:everything"]), 422, "#/scopes/0", "audits:read"),
        (body(name="two words"), 422, "#/name", "pattern"),
        (body(name="a" * 65), 422, "#/name", "pattern"),
        ({"name": "n", "scopes": ["audits:read"]}, 422, "#/expires_at", "add it"),
        (body(expires_at="2020-01-01T00:00:00Z"), 422, "#/expires_at", "in the future"),
        (body(expires_at="2036-01-01T00:00:00"), 422, "#/expires_at", "timezone"),
        (body(expires_at="9999-12-31T23:59:59-12:00"), 422, "#/expires_at", "within ten years"),
        (body(tenant="other"), 422, "#/tenant", "remove it"),
        (body(name="first"), 409, "#/name", "never reused"),
    ],
)
def test_a_mistake_is_found_where_it_is(
    gate: TestClient, sent: dict[str, Any], status: int, pointer: str, words: str
) -> None:
    admin = key(gate, "keys:admin", "audits:read", name="first")
    answer = gate.post("/v1/api-keys", json=sent, headers=admin)
    assert answer.status_code == status, answer.text
    (found,) = answer.json()["errors"]
    assert found["pointer"] == pointer
    assert words in found["detail"]


def test_the_name_of_a_revoked_key_is_not_given_again(gate: TestClient) -> None:
    admin = key(gate, "keys:admin", "audits:read")
    made = gate.post("/v1/api-keys", json=body(), headers=admin).json()["api_key"]
    gate.post(f"/v1/api-keys/{made['id']}/revoke", headers=admin)
    assert gate.post("/v1/api-keys", json=body(), headers=admin).json()["code"] == "api_key_exists"


def test_pages_list_every_key_once(gate: TestClient) -> None:
    admin = key(gate, "keys:admin", "audits:read", name="k0")
    for number in range(1, 5):
        gate.post("/v1/api-keys", json=body(name=f"k{number}"), headers=admin)
    found, path = [], "/v1/api-keys?limit=2"
    while path:
        answer = gate.get(path, headers=admin)
        found += [one["name"] for one in answer.json()["items"]]
        following = answer.json()["next_cursor"]
        assert ("link" in answer.headers) == (following is not None)
        path = following and f"/v1/api-keys?limit=2&cursor={following}"
    assert found == ["k4", "k3", "k2", "k1", "k0"]


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database, clock: Clock) -> ApiKeys:
    return ApiKeys(database=database, clock=clock)


@pytest.fixture
def authentication(database: Database, clock: Clock) -> Authentication:
    return Authentication(Settings(authentication="required"), database=database, clock=clock)


def test_a_key_ends_when_it_says(keys: ApiKeys, authentication: Authentication, clock: Clock) -> None:
    made, secret = keys.create(operator("acme"), name="k", scopes=["audits:read"], expires_at=clock.now + 10)
    assert authentication.principal(f"bearer {secret}") == Principal("acme", "key:k", frozenset({"audits:read"}))
    clock.now += 9.9
    authentication.principal(f"Bearer {secret}")
    clock.now += 0.1
    with pytest.raises(CredentialsInvalid, match="expired at 2027-01-15T08:00:10"):
        authentication.principal(f"Bearer {secret}")
    assert made.expires_at == clock.now


def test_a_rotated_key_lives_as_long_again_and_its_old_secret_only_for_the_grace(
    keys: ApiKeys, authentication: Authentication, clock: Clock
) -> None:
    made, first = keys.create(operator("acme"), name="k", scopes=["audits:read"], expires_at=clock.now + 90 * DAY_S)
    clock.now += 80 * DAY_S
    rotated, second = keys.rotate(operator("acme"), made.id, grace_s=DAY_S)
    assert rotated.expires_at == clock.now + 90 * DAY_S
    assert rotated.previous_until == clock.now + DAY_S
    clock.now += DAY_S - 1
    for secret in (first, second):
        authentication.principal(f"Bearer {secret}")
    clock.now += 1
    with pytest.raises(CredentialsInvalid, match="rotation"):
        authentication.principal(f"Bearer {first}")
    authentication.principal(f"Bearer {second}")
    _, third = keys.rotate(operator("acme"), made.id, grace_s=0)
    with pytest.raises(CredentialsInvalid):
        authentication.principal(f"Bearer {second}")
    # the grace does not make the secret before outlive its own end
    clock.now += 90 * DAY_S - 5
    last, _ = keys.rotate(operator("acme"), made.id, grace_s=DAY_S)
    assert last.previous_until == clock.now + 5
    authentication.principal(f"Bearer {third}")


def test_two_rotations_at_once_leave_one_that_works(keys: ApiKeys, authentication: Authentication) -> None:
    made, _ = keys.create(operator("acme"), name="k", scopes=["audits:read"], expires_at=None)
    secrets: list[str] = []
    threads = [
        threading.Thread(target=lambda: secrets.append(keys.rotate(operator("acme"), made.id, grace_s=60)[1]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the later one replaced the earlier one, which has its grace
    assert len(set(secrets)) == 2
    for secret in secrets:
        authentication.principal(f"Bearer {secret}")


def test_uses_are_stored_now_and_then_and_never_by_the_request(
    keys: ApiKeys, authentication: Authentication, clock: Clock, database: Database
) -> None:
    made, secret = keys.create(operator("acme"), name="k", scopes=["audits:read"], expires_at=None)

    def last_used() -> float | None:
        with database.reading() as connection:
            found = find_api_key(connection, made.id)
        assert found is not None
        return found.last_used_at

    started = clock.now
    for _ in range(5):
        # a writer has the only lock of SQLite, and a request does not wait for it
        with database.writing():
            authentication.principal(f"Bearer {secret}")
        clock.now += 1
    assert last_used() is None
    authentication.stop()
    assert last_used() == started + 4
    # another gateway that stores an earlier use later changes nothing
    late = Authentication(Settings(authentication="required"), database=database, clock=lambda: started + 1)
    late.principal(f"Bearer {secret}")
    late.stop()
    assert last_used() == started + 4


def test_the_start_says_how_to_make_the_first_key(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(authentication="required")
    with capture_logs() as logs, TestClient(create_app(settings)) as opened:
        service = service_of(opened)
    (said,) = [one for one in logs if one["event"] == "no_api_key"]
    assert said["make_one"] == "auditcore keys create NAME --role admin"
    service.api_keys.create(operator("acme"), name="k", scopes=["audits:read"], expires_at=None)
    for quiet in (settings, make_settings()):
        with capture_logs() as logs, TestClient(create_app(quiet)):
            pass
        assert [one for one in logs if one["event"] == "no_api_key"] == []


def test_a_secret_is_random_has_the_published_form_and_shows_a_slip_of_the_pen() -> None:
    made = [new_secret() for _ in range(200)]
    assert len({one.text for one in made}) == len({one.key_id for one in made}) == 200
    for one in made:
        assert re.fullmatch(PATTERN, one.text)
        assert key_id_in(one.text) == one.key_id
    text = made[0].text
    for at in range(3, len(text)):
        changed = text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
        assert key_id_in(changed) is None, at
    for other in ("", "ac_", text[:-1], f"{text}a", f" {text}", f"{text}\n", text.upper()):
        assert key_id_in(other) is None


def test_a_secret_has_at_least_256_random_bits() -> None:
    """Every place of 43 takes every one of 62 characters: 62^43 > 2^256."""
    secrets = [new_secret().text[len("ac_12345678_") : -6] for _ in range(2000)]
    assert {len(secret) for secret in secrets} == {43}
    assert all(len({secret[at] for secret in secrets}) == 62 for at in range(43))
    assert 62**43 > 2**256


def test_roles_are_made_of_scopes_and_an_admin_lacks_only_the_metrics_of_all_tenants() -> None:
    assert all(set(scopes) <= set(SCOPES) for scopes in ROLES.values())
    assert set(SCOPES) - set(ROLES["admin"]) == {"metrics:read"}
