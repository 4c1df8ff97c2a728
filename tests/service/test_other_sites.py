"""Web pages cannot use a service that asks nobody who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from auditcore_service.gateway.app import create_app
from auditcore_service.settings import Settings

POLICY = "/v1/policies"


@pytest.fixture
def local(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of gateways; keywords are settings. None is started, because nothing gets as far as a route."""
    made: list[FastAPI] = []

    def make(**changes: Any) -> TestClient:
        settings = make_settings(**{"allowed_hosts": (), **changes})
        made.append(create_app(settings))
        return TestClient(made[-1], base_url="http://127.0.0.1:8000", raise_server_exceptions=False)

    yield make
    for app in made:
        app.state.service.rates.close()


@pytest.mark.parametrize(
    "host",
    [
        "site.example",
        "site.example:8000",
        "127.0.0.1.site.example",
        "localhost.site.example",
        "localhost@site.example",
        "site.example#localhost",
        "192.0.2.7",
        "[::1",
        "",
    ],
)
def test_a_site_whose_name_leads_here_is_refused(local: Callable[..., TestClient], host: str) -> None:
    """After DNS rebinding a page is of the same origin as the service, and only the name shows it."""
    for method, path in (("GET", "/livez"), ("GET", "/openapi.json"), ("POST", POLICY)):
        answer = local().request(method, path, headers={"Host": host, "Sec-Fetch-Site": "same-origin"})
        assert (answer.status_code, answer.json()["code"]) == (421, "host_unknown")
        assert "AUDIT_ALLOWED_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "127.9.9.9", "[::1]:8000", "audits.example", "audits.example:80"],
)
def test_own_names_are_answered(local: Callable[..., TestClient], host: str) -> None:
    client = local(allowed_hosts=("audits.example",))
    assert client.get("/livez", headers={"Host": host}).status_code == 200


def test_an_address_that_the_operator_opens_may_have_any_name_unless_names_are_listed(
    local: Callable[..., TestClient],
) -> None:
    opened = {"host": "0.0.0.0", "unauthenticated_host": "0.0.0.0"}  # noqa: S104 - nothing is bound
    site = {"Host": "audits.example"}
    assert local(**opened).get("/livez", headers=site).status_code == 200
    assert local(**opened, allowed_hosts=("other.example",)).get("/livez", headers=site).status_code == 421


@pytest.mark.parametrize(
    "sent",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
        {"Origin": "https://site.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
)
def test_a_page_of_another_site_changes_nothing(local: Callable[..., TestClient], sent: dict[str, str]) -> None:
    for method in ("POST", "DELETE", "PUT", "X"):
        answer = local().request(method, "/livez", headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    # a link to the service works
    assert local().get("/livez", headers=sent).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:8000"},
    ],
)
def test_programs_and_the_page_of_the_service_itself_pass(
    local: Callable[..., TestClient], sent: dict[str, str]
) -> None:
    assert local().post("/livez", headers=sent).status_code == 405


def test_with_credentials_any_site_and_name_pass(local: Callable[..., TestClient]) -> None:
    client = local(authentication="required")
    assert client.get("/livez", headers={"Host": "audits.example"}).status_code == 200
    assert client.post(POLICY, headers={"Origin": "https://site.example"}).status_code == 401


@pytest.mark.parametrize("name", ["Audits.example", "http://audits.example", "audits.example:80", "*", ""])
def test_a_name_is_written_in_one_form(name: str) -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        Settings(allowed_hosts=(name,))
