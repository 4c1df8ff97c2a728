"""OpenID Connect: a real issuer over HTTP, with keys of its own, and what becomes of its tokens."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from pydantic import ValidationError

from auditcore_service.gateway.app import create_app
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.use_cases import issuer_keys
from auditcore_service.use_cases.issuer_keys import FRESH_S, PAUSE_S, STALE_S, IssuerKeys
from auditcore_service.use_cases.oidc import ALGORITHMS, LEEWAY_S, OidcTokens, claim
from auditcore_service.use_cases.refusals import CredentialsInvalid, IssuerUnavailable
from scripted_server import Asked, Reply, Scripted, scripted

AUDIENCE = "https://audits.example"
NOW = 1_800_000_000
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})


class Issuer:
    """An OpenID Connect issuer on a port of this machine.

    Attributes:
        published: Keys of its JWKS.
        down: Whether it answers with an error.
    """

    def __init__(self, server: Scripted) -> None:
        self._server = server
        self.url = server.url
        self.published: list[Key | dict[str, Any]] = [RSA, EC, ED]
        self.down = False
        self.discovery: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.replies: dict[str, Reply] = {}

    def answer(self, asked: Asked) -> Reply:
        if self.down:
            return Reply(503)
        if asked.path in self.replies:
            return self.replies[asked.path]
        if asked.path == "/.well-known/openid-configuration":
            return Reply(content=json.dumps(self.discovery).encode())
        assert asked.path == "/jwks", asked
        keys = [key if isinstance(key, dict) else key.as_dict(private=False) for key in self.published]
        return Reply(content=json.dumps({"keys": keys}).encode())

    @property
    def fetches(self) -> int:
        return sum(asked.path == "/.well-known/openid-configuration" for asked in self._server.asked)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with scripted() as server:
        made = Issuer(server)
        server.script = made.answer
        yield made


def claims(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    found = {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "alice@example.org",
        "exp": NOW + 600,
        "iat": NOW,
        "scope": "openid audits:read audits:sign profile",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(content: dict[str, Any], key: Any = RSA, alg: str = "RS256", **header: Any) -> str:
    return jwt.encode({"alg": alg, "kid": key.kid, **header}, content, key, algorithms=[alg])


def tokens(issuer: Issuer, now: float = NOW, **changes: Any) -> OidcTokens:
    values = {"authentication": "required", "oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, **changes}
    return OidcTokens(Settings(**values), clock=lambda: now)


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "Ed25519")],
    ids=["RS256", "PS512", "ES256", "Ed25519"],
)
def test_a_token_of_the_issuer_speaks_for_its_subject(issuer: Issuer, key: Any, alg: str) -> None:
    found = tokens(issuer).principal(token(claims(issuer), key, alg))
    assert found == Principal("default", "alice@example.org", frozenset({"audits:read", "audits:sign"}))


def test_over_http_a_token_opens_what_its_scopes_say(make_settings: Callable[..., Settings], issuer: Issuer) -> None:
    required = make_settings(authentication="required", oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
    content = claims(issuer, iat=int(time.time()), exp=int(time.time()) + 600)
    headers = {"Authorization": f"Bearer {token(content)}"}
    with TestClient(create_app(required), raise_server_exceptions=False) as client:
        assert client.get("/v1/audits", headers=headers).status_code == 200
        assert client.get("/v1/log", headers=headers).status_code == 403
        bad = client.get("/v1/audits", headers={"Authorization": f"Bearer {token(content, STRANGER)}"})
        assert (bad.status_code, bad.json()["code"]) == (401, "credentials_invalid")
        assert bad.headers["www-authenticate"] == 'Bearer realm="auditcore", error="invalid_token"'
        assert "or a token" in client.get("/v1/audits").json()["detail"]
    with TestClient(create_app(required), raise_server_exceptions=False) as client:
        issuer.down = True
        away = client.get("/v1/audits", headers=headers)
        assert (away.status_code, away.json()["code"]) == (503, "issuer_unavailable")
        assert away.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aud": "https://other.example"}, "'aud'"),
        ({"aud": ["https://other.example"]}, "'aud'"),
        ({"aud": None}, "aud"),
        ({"iss": "https://other.example"}, "'iss'"),
        ({"iss": None}, "iss"),
        ({"exp": NOW - LEEWAY_S}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"nbf": NOW + LEEWAY_S + 1}, "not yet valid"),
        ({"iat": NOW + LEEWAY_S + 1}, "in the future"),
        ({"sub": None}, "names nobody"),
        ({"sub": ""}, "names nobody"),
        ({"sub": "a\nb"}, "names nobody"),
        ({"sub": "a" * 256}, "names nobody"),
        ({"sub": "operator"}, "operator"),
        ({"sub": "key:nightly"}, "API key"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(issuer: Issuer, changes: dict[str, Any], words: str) -> None:
    checked = tokens(issuer)
    checked.principal(token(claims(issuer)))
    with pytest.raises(CredentialsInvalid, match=words):
        checked.principal(token(claims(issuer, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - LEEWAY_S + 1},
        {"nbf": NOW + LEEWAY_S},
        {"iat": NOW + LEEWAY_S},
        {"iat": None},
        {"aud": ["https://other.example", AUDIENCE]},
    ],
)
def test_clocks_may_differ_a_little_and_audiences_be_several(issuer: Issuer, changes: dict[str, Any]) -> None:
    assert tokens(issuer).principal(token(claims(issuer, **changes))).name == "alice@example.org"


def compact(header: dict[str, Any], content: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(content).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def with_hmac(header: dict[str, Any], content: dict[str, Any], secret: bytes) -> str:
    signed = compact(header, content).rpartition(".")[0]
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_no_other_algorithm_counts(issuer: Issuer) -> None:
    """`none`, and HMAC with the public key as its secret, which everybody knows."""
    checked = tokens(issuer)
    checked.principal(token(claims(issuer)))
    public = RSA.as_pem(private=False)
    forged = [
        compact({"alg": "none", "kid": "rsa"}, claims(issuer)),
        compact({"alg": "None"}, claims(issuer)),
        with_hmac({"alg": "HS256", "kid": "rsa"}, claims(issuer), public),
        with_hmac({"alg": "HS256"}, claims(issuer), public),
        # a key of another kind under the id of a published one
        token(claims(issuer), ECKey.generate_key("P-256", {"kid": "rsa"}), "ES256"),
        token(claims(issuer), STRANGER),
        token(claims(issuer)).rpartition(".")[0] + ".",
    ]
    for one in forged:
        with pytest.raises(CredentialsInvalid):
            checked.principal(one)
    # the key set and the library would refuse these too
    assert not [name for name in ALGORITHMS if name == "none" or name.startswith("HS")]


def test_a_secret_that_the_issuer_publishes_verifies_nothing(issuer: Issuer) -> None:
    secret = OctKey.generate_key(256, {"kid": "oct"})
    issuer.published = [secret.as_dict(private=True), RSA, {"kty": "AKP", "kid": "new"}, {"kid": "broken"}, RSA]
    checked = tokens(issuer)
    checked.principal(token(claims(issuer)))
    with pytest.raises(CredentialsInvalid):
        checked.principal(token(claims(issuer), secret, "HS256"))


def test_a_key_for_encryption_verifies_nothing(issuer: Issuer) -> None:
    other = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    issuer.published = [other, EC]
    with pytest.raises(CredentialsInvalid):
        tokens(issuer).principal(token(claims(issuer), RSAKey.import_key(other.as_dict(private=True, use="sig"))))


def test_a_logout_token_is_no_access_token(issuer: Issuer) -> None:
    checked = tokens(issuer)
    for kind in ("JWT", "at+jwt", "AT+JWT"):
        checked.principal(token(claims(issuer), typ=kind))
    for kind in ("logout+jwt", "dpop+jwt", 7):
        with pytest.raises(CredentialsInvalid):
            checked.principal(token(claims(issuer), typ=kind) if isinstance(kind, str) else compact({"typ": 7}, {}))


def test_an_unknown_header_is_ignored_and_a_critical_one_is_not(issuer: Issuer) -> None:
    checked = tokens(issuer)
    registry_free = jwt.JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    made = jwt.encode({"alg": "RS256", "kid": "rsa", "nonce": "x"}, claims(issuer), RSA, registry=registry_free)
    assert checked.principal(made).tenant == "default"
    with pytest.raises(CredentialsInvalid):
        checked.principal(compact({"alg": "RS256", "kid": "rsa", "crit": ["nonce"], "nonce": "x"}, claims(issuer)))


SENT = st.one_of(
    st.text(max_size=200),
    st.lists(st.text(alphabet="abcAZ019_-", max_size=30), min_size=3, max_size=3).map(".".join),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.sampled_from(["RS256", "rsa", "JWT"]), st.lists(st.text())
        ),
    ).map(lambda header: compact(header, {}, b"x")),
)


def test_no_text_is_more_than_invalid(issuer: Issuer) -> None:
    checked = tokens(issuer)

    @settings(max_examples=300)
    @given(SENT)
    def check(sent: str) -> None:
        with pytest.raises(CredentialsInvalid):
            checked.principal(sent)

    check()


def test_tenant_and_scopes_come_from_the_claims_that_the_operator_names(issuer: Issuer) -> None:
    content = claims(
        issuer,
        scope=None,
        org={"name": "acme"},
        preferred_username="alice",
        **{"https://audits.example/roles": ["audits:read", "keys:admin", "root", 7]},
    )
    found = tokens(
        issuer,
        oidc_tenant_claim="org.name",
        oidc_scope_claim="https://audits.example/roles",
        oidc_name_claim="preferred_username",
    ).principal(token(content))
    assert found == Principal("acme", "alice", frozenset({"audits:read", "keys:admin"}))


@pytest.mark.parametrize("tenant", [None, "", "*", "Acme", "a/b", "../default", "a" * 64, 7, ["acme"], "acme\n"])
def test_a_claim_that_is_no_tenant_is_refused(issuer: Issuer, tenant: object) -> None:
    with pytest.raises(CredentialsInvalid, match="no name of a tenant"):
        tokens(issuer, oidc_tenant_claim="tenant").principal(token(claims(issuer, tenant=tenant)))


@pytest.mark.parametrize("scope", [None, "", 7, {"audits:read": True}, [["audits:read"]], "audits:readx keys"])
def test_a_token_without_our_scopes_may_do_nothing(issuer: Issuer, scope: object) -> None:
    assert tokens(issuer).principal(token(claims(issuer, scope=scope))).scopes == frozenset()


def test_a_pipeline_gets_scopes_for_what_it_is(issuer: Issuer) -> None:
    """Tokens of CI systems have no scopes, and their issuer makes tokens for everybody."""
    checked = tokens(
        issuer,
        oidc_required_claims={"repository_owner": "acme", "groups": "release"},
        oidc_granted_scopes=("audits:write",),
    )
    ours = {"repository_owner": "acme", "groups": ["staff", "release"], "scope": None}
    assert checked.principal(token(claims(issuer, **ours))).scopes == {"audits:write"}
    for other in ({"repository_owner": "mallory"}, {"repository_owner": None}, {"groups": ["releases"]}):
        with pytest.raises(CredentialsInvalid, match=next(iter(other))):
            checked.principal(token(claims(issuer, **(ours | other))))


def test_the_whole_name_of_a_claim_counts_before_its_path() -> None:
    found = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "e": [1]}
    assert [claim(found, name) for name in ("a.b", "a.c.d", "a.x", "e.0", "x", "a.c.d.e")] == [
        1,
        3,
        None,
        None,
        None,
        None,
    ]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key_ids(keys: IssuerKeys, wanted: str | None) -> set[str | None]:
    return {key.kid for key in keys.find(wanted)}


def test_keys_are_fetched_when_needed_and_not_more_often(issuer: Issuer) -> None:
    clock = Clock()
    keys = IssuerKeys(issuer.url, clock=clock)
    for _ in range(5):
        assert key_ids(keys, "rsa") == {"rsa", "ec", "ed"}
    assert issuer.fetches == 1
    # a new key, as a rotation brings it, is found at once, but unknown ids cannot make the service ask on and on
    issuer.published.append(RSAKey.generate_key(2048, {"kid": "new"}))
    assert "new" not in key_ids(keys, "new")
    clock.now += PAUSE_S
    assert "new" in key_ids(keys, "new")
    assert issuer.fetches == 2
    for number in range(50):
        keys.find(f"unknown {number}")
    assert issuer.fetches == 2
    clock.now += PAUSE_S
    for number in range(50):
        keys.find(f"unknown {number}")
    assert issuer.fetches == 3
    # a key that the issuer withdraws is gone after a while
    issuer.published = [EC]
    clock.now += FRESH_S
    assert "rsa" in key_ids(keys, "rsa")
    clock.now += 1
    assert key_ids(keys, "rsa") == {"ec"}


def test_known_keys_are_used_while_the_issuer_is_away_but_not_for_ever(issuer: Issuer) -> None:
    clock = Clock()
    keys = IssuerKeys(issuer.url, clock=clock)
    keys.find("rsa")
    issuer.down = True
    clock.now += STALE_S
    for _ in range(9):
        assert "rsa" in key_ids(keys, "rsa")
    assert issuer.fetches == 2
    clock.now += 1
    with pytest.raises(IssuerUnavailable, match="does not answer"):
        keys.find("rsa")
    issuer.down = False
    clock.now += PAUSE_S
    assert "rsa" in key_ids(keys, "rsa")


def test_an_issuer_that_is_away_at_first_is_asked_again(issuer: Issuer) -> None:
    clock = Clock()
    issuer.down = True
    keys = IssuerKeys(issuer.url, clock=clock)
    for _ in range(5):
        with pytest.raises(IssuerUnavailable):
            keys.find("rsa")
    assert issuer.fetches == 1
    issuer.down = False
    clock.now += PAUSE_S
    assert "rsa" in key_ids(keys, "rsa")


@pytest.mark.parametrize(
    ("changes", "reply"),
    [
        ({"issuer": "https://other.example"}, None),
        ({"jwks_uri": "http://keys.example/jwks"}, None),
        ({"jwks_uri": "file:///etc/passwd"}, None),
        ({"jwks_uri": None}, None),
        ({}, Reply(302, headers={"Location": "/elsewhere"})),
        ({}, Reply(content=b"not JSON")),
        ({}, Reply(content=b"[]")),
        ({}, Reply(content=b'{"keys": []}')),
        ({}, Reply(content=b'{"keys": {}}')),
        ({}, Reply(content=b"[" * 100_000)),
        ({}, Reply(content=b" " * (issuer_keys.LARGEST_BYTES + 1))),
        ({}, Reply(hang_up=True)),
    ],
)
def test_an_answer_that_is_not_the_issuers_gives_no_keys(
    issuer: Issuer, changes: dict[str, Any], reply: Reply | None
) -> None:
    elsewhere = json.dumps({"keys": [STRANGER.as_dict(private=False)]}).encode()
    issuer.replies = {"/elsewhere": Reply(content=elsewhere)} | ({} if reply is None else {"/jwks": reply})
    issuer.discovery |= changes
    with pytest.raises(IssuerUnavailable):
        IssuerKeys(issuer.url).find("rsa")


def test_an_issuer_that_answers_without_end_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "TIMEOUT_S", 0.3)
    issuer.replies = {"/jwks": Reply(content=b" " * 40, between_s=0.05)}
    started = time.monotonic()
    with pytest.raises(IssuerUnavailable):
        IssuerKeys(issuer.url).find("rsa")
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"authentication": "none"}, "AUDIT_AUTHENTICATION=required"),
        ({"oidc_issuer": "http://issuer.example"}, "https://"),
        ({"oidc_issuer": "https://"}, "https://"),
        ({"oidc_issuer": "https://issuer.example/?x=1"}, "query"),
        ({"oidc_audience": None}, "`aud`"),
        ({"oidc_granted_scopes": ("audits:read",)}, "AUDIT_OIDC_REQUIRED_CLAIMS"),
        ({"oidc_granted_scopes": ("everything",), "oidc_required_claims": {"a": "b"}}, "audits:read"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(given_settings: dict[str, Any], words: str) -> None:
    good = {"authentication": "required", "oidc_issuer": "https://issuer.example/", "oidc_audience": "us"}
    Settings(**good)
    with pytest.raises(ValidationError, match=words):
        Settings(**(good | given_settings))
