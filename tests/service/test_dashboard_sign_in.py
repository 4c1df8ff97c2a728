"""Who gets into the dashboard: keys and tenants of the API, a cookie that counts for `/ui` only, and no other site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from fastapi.testclient import TestClient

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.credentials import COOKIE, is_below_ui
from auditcore_service.gateway.dashboard.page_route import next_page
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ROLES, Principal, Scope
from auditcore_service.settings import Settings
from dashboard_audits import store_images
from small_model import SMALL_MODEL
from two_tenants import OURS, THEIRS, request

PAGE = {"Accept": "text/html"}


class Guarded(NamedTuple):
    """A gateway that wants to know who asks."""

    client: TestClient
    service: Service

    def key(self, *scopes: Scope, tenant: Principal = OURS) -> str:
        """A key with these scopes; with all if none are given."""
        owner = Principal(tenant.tenant, tenant.name, tenant.scopes)
        name = f"k{len(self.service.api_keys.page(owner, cursor=None, limit=100)[0])}"
        return self.service.api_keys.create(owner, name=name, scopes=scopes or tuple(owner.scopes), expires_at=None)[1]

    def sign_in(self, key: str, following: str = "/ui") -> None:
        """Sign in; the client keeps the cookie."""
        answer = self.client.post(
            "/ui/sign-in", data={"key": key, "next": following}, headers=PAGE, follow_redirects=False
        )
        assert answer.status_code == 303, answer.text


@pytest.fixture
def guarded(make_settings: Callable[..., Settings]) -> Iterator[Guarded]:
    settings = make_settings(authentication="required", failed_authentications_per_minute=5, queue="database")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield Guarded(client, client.app.state.service)  # type: ignore[attr-defined]


def test_a_stranger_is_led_to_the_sign_in_and_back(guarded: Guarded) -> None:
    answer = guarded.client.get("/ui/audits?verdict=fail", headers=PAGE, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/ui/sign-in?next=%2Fui%2Faudits%3Fverdict%3Dfail"
    form = guarded.client.get(answer.headers["Location"], headers=PAGE)
    assert form.status_code == 200
    assert 'name="next" value="/ui/audits?verdict=fail"' in form.text
    signed_in = guarded.client.post(
        "/ui/sign-in", data={"key": guarded.key(), "next": "/ui/audits?verdict=fail"}, follow_redirects=False
    )
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/ui/audits?verdict=fail")
    assert guarded.client.get("/ui/audits?verdict=fail", headers=PAGE).status_code == 200
    # a script is told instead, because it cannot follow to another page
    guarded.client.cookies.clear()
    script = guarded.client.get("/ui/audits", headers={"HX-Request": "true", **PAGE})
    assert (script.status_code, script.headers["HX-Redirect"]) == (401, "/ui/sign-in?next=%2Fui%2Faudits")
    events = guarded.client.get("/ui/audits/events?id=x", headers={"Accept": "text/event-stream"})
    assert events.status_code == 401


def test_the_cookie_is_out_of_reach(guarded: Guarded) -> None:
    data = {"key": guarded.key()}
    plain = guarded.client.post("/ui/sign-in", data=data, follow_redirects=False).headers["Set-Cookie"]
    parts = {part.strip().lower() for part in plain.split(";")[1:]}
    assert parts == {"httponly", "path=/ui", "samesite=strict"}
    guarded.client.cookies.clear()
    safe = guarded.client.post("https://testserver/ui/sign-in", data=data, follow_redirects=False)
    assert "secure" in safe.headers["Set-Cookie"].lower()


def test_the_cookie_is_nothing_to_the_api(guarded: Guarded) -> None:
    key = guarded.key()
    guarded.sign_in(key)
    assert guarded.client.get("/ui/audits", headers=PAGE).status_code == 200
    cookie = {"Cookie": f"{COOKIE}={key}"}
    for method, path in (
        ("GET", "/v1/audits"),
        ("POST", "/v1/audits"),
        ("GET", "/v1/usage"),
        ("GET", "/metrics"),
        ("GET", "/uinever"),
    ):
        answer = guarded.client.request(method, path, headers=cookie)
        assert answer.status_code == 401, path
    assert not is_below_ui("/uinever")
    # the header counts for pages too
    guarded.client.cookies.clear()
    assert guarded.client.get("/ui/audits", headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("key", ["ac_wrong", "", "two words", "a;b", "x" * 5000, 'ac_"', "ключ"])
def test_a_wrong_key_is_refused_with_words(guarded: Guarded, key: str) -> None:
    answer = guarded.client.post("/ui/sign-in", data={"key": key}, headers=PAGE, follow_redirects=False)
    assert answer.status_code == 401
    assert "Not signed in." in answer.text
    assert "Set-Cookie" not in answer.headers
    assert guarded.client.get("/ui/audits", headers=PAGE, follow_redirects=False).status_code == 303


def test_guesses_are_counted_as_those_at_the_api(guarded: Guarded) -> None:
    good = guarded.key()
    codes = [
        guarded.client.post("/ui/sign-in", data={"key": f"ac_{n}"}, follow_redirects=False).status_code
        for n in range(7)
    ]
    assert codes == [401] * 5 + [429] * 2
    late = guarded.client.post("/ui/sign-in", data={"key": good}, follow_redirects=False)
    assert late.status_code == 429
    assert "Retry-After" in late.headers
    assert guarded.client.get("/v1/audits", headers={"Authorization": "Bearer ac_x"}).status_code == 429


def test_requests_of_pages_count_for_the_tenant(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(authentication="required", requests_per_minute=3, queue="database")
    with TestClient(create_app(settings)) as client:
        guarded = Guarded(client, client.app.state.service)  # type: ignore[attr-defined]
        guarded.sign_in(guarded.key())
        codes = [client.get("/ui/audits", headers=PAGE).status_code for _ in range(4)]
        assert codes == [200, 200, 429, 429]
        assert "wait" in client.get("/ui/audits", headers=PAGE).text
        assert client.get("/ui/static/dashboard.css").status_code == 200


def test_a_key_that_was_revoked_ends_the_sign_in(guarded: Guarded) -> None:
    guarded.sign_in(guarded.key())
    (key,) = guarded.service.api_keys.page(OURS, cursor=None, limit=9)[0]
    guarded.service.api_keys.revoke(OURS, key.id)
    answer = guarded.client.get("/ui/audits", headers=PAGE, follow_redirects=False)
    assert answer.headers["Location"] == "/ui/sign-in?next=%2Fui%2Faudits&ended=1"
    assert f'{COOKIE}=""' in answer.headers["Set-Cookie"]
    assert "Your sign-in has ended" in guarded.client.get(answer.headers["Location"], headers=PAGE).text


def test_a_sign_out_deletes_the_cookie(guarded: Guarded) -> None:
    guarded.sign_in(guarded.key())
    answer = guarded.client.post("/ui/sign-out", headers=PAGE, follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/sign-in")
    assert guarded.client.get("/ui/audits", headers=PAGE, follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "sent",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://site.example"},
        {"Origin": "http://testserver:8001"},
        {"Origin": "null"},
    ],
)
def test_another_site_changes_nothing_even_with_the_cookie(guarded: Guarded, sent: dict[str, str]) -> None:
    guarded.sign_in(guarded.key())
    batch = store_images(guarded.service, OURS)
    audit = guarded.service.audits.submit(OURS, request(batch, model=SMALL_MODEL)).id
    for path in (f"/ui/audits/{audit}/cancel", "/ui/sign-out", "/ui/sign-in", "/ui/keys", "/ui/new"):
        answer = guarded.client.post(path, headers=sent | PAGE)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), path
    assert guarded.service.audits.get(OURS, audit).state == "queued"
    # the forms of the dashboard itself
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
    assert guarded.client.post(f"/ui/audits/{audit}/cancel", headers=own | PAGE).status_code == 200
    assert guarded.service.audits.get(OURS, audit).state == "cancelled"


def test_pages_say_where_a_form_comes_from(guarded: Guarded) -> None:
    """With `no-referrer` a browser sends `Origin: null` with the forms of the page itself, which are then refused."""
    assert guarded.client.get("/ui/sign-in", headers=PAGE).headers["Referrer-Policy"] == "same-origin"


def test_scopes_hold_and_what_is_not_allowed_is_not_offered(guarded: Guarded) -> None:
    batch = store_images(guarded.service, OURS)
    audit = guarded.service.audits.submit(OURS, request(batch, model=SMALL_MODEL)).id
    guarded.sign_in(guarded.key(*ROLES["reader"]))
    text = guarded.client.get(f"/ui/audits/{audit}", headers=PAGE).text
    assert audit in text
    for offered in ("/cancel", "/replay", "/delete", 'href="/ui/new', 'href="/ui/keys'):
        assert offered not in text, offered
    for method, path in (
        ("POST", f"/ui/audits/{audit}/cancel"),
        ("POST", f"/ui/audits/{audit}/replay"),
        ("POST", f"/ui/audits/{audit}/delete"),
        ("GET", "/ui/new"),
        ("POST", "/ui/new"),
        ("POST", "/ui/new/request"),
        ("GET", "/ui/policies/new"),
        ("POST", "/ui/policies/new"),
        ("GET", "/ui/keys"),
        ("POST", "/ui/keys"),
        ("POST", "/ui/keys/x/rotate"),
        ("POST", "/ui/keys/x/revoke"),
        ("POST", "/ui/trainings/x/cancel"),
    ):
        answer = guarded.client.request(method, path, headers=PAGE)
        assert answer.status_code == 403, (method, path)
        assert "lack the scope" in answer.text
    assert guarded.service.audits.get(OURS, audit).state == "queued"
    health = guarded.client.get("/ui/health", headers=PAGE).text
    assert "Shards that wait" not in health
    assert "metrics:read" in health


def test_nothing_of_another_tenant_is_there(guarded: Guarded) -> None:
    batch = store_images(guarded.service, OURS)
    audit = guarded.service.audits.submit(OURS, request(batch, model=SMALL_MODEL)).id
    guarded.sign_in(guarded.key(tenant=THEIRS))
    assert audit not in guarded.client.get("/ui/audits", headers=PAGE).text
    for path in (f"/ui/audits/{audit}", f"/ui/audits/{audit}/report", f"/ui/audits/events?id={audit}"):
        assert guarded.client.get(path, headers=PAGE).status_code == 404, path
    assert guarded.client.post(f"/ui/audits/{audit}/cancel", headers=PAGE).status_code == 404


def test_a_link_from_elsewhere_finds_the_cookie_at_the_second_look(guarded: Guarded) -> None:
    path = "/ui/sign-in?next=%2Fui%2Faudits"
    linked = guarded.client.get(path, headers={"Sec-Fetch-Site": "cross-site"})
    assert '<meta http-equiv="refresh" content="0; url=/ui/audits">' in linked.text
    assert "refresh" not in guarded.client.get(path, headers={"Sec-Fetch-Site": "same-origin"}).text
    assert "refresh" not in guarded.client.get(f"{path}&ended=1", headers={"Sec-Fetch-Site": "cross-site"}).text


@pytest.mark.parametrize(
    "wanted",
    [
        "https://site.example/ui",
        "//site.example/ui",
        "/\\site.example/ui",
        "/v1/audits",
        "/uix",
        "/ui/../v1/audits",
        "javascript:alert(1)",
        "/ui/sign-in?next=/ui/sign-in",
        "/ui/\nx",
        "",
    ],
)
def test_the_way_after_the_sign_in_stays_in_the_dashboard(wanted: str) -> None:
    assert next_page(wanted) == "/ui"


def test_pages_and_their_filters_are_kept_over_the_sign_in() -> None:
    assert next_page("/ui/audits?verdict=fail&tag=a:b") == "/ui/audits?verdict=fail&tag=a:b"


def test_without_authentication_there_is_nothing_to_sign_in_to(client: TestClient) -> None:
    answer = client.get("/ui/sign-in?next=/ui/health", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/health")
    assert "Set-Cookie" not in client.post("/ui/sign-in", data={"key": "ac_x"}, follow_redirects=False).headers
    assert "Sign out" not in client.get("/ui/audits").text
