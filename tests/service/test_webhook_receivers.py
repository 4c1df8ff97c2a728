"""Which URLs may receive events."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore_service.settings import Settings
from auditcore_service.webhooks.receivers import Receivers

PUBLIC = Receivers()
INSIDE = Receivers(("http://Pipeline.internal:80/hooks/",))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://pipeline.example/", "not behind https"),
        ("ftp://pipeline.example/", "not behind https"),
        ("file:///etc/passwd", "names no host"),
        ("https://", "names no host"),
        ("pipeline.example/hooks", "names no host"),
        ("https://user:pass@pipeline.example/", "credentials"),
        ("https://user@pipeline.example/", "credentials"),
        ("https://pipeline.example/#part", "fragment"),
        ("https://[::1", "is not a URL"),
        ("https://pipeline.example:99999/", "a port that does not exist"),
        ("https://pipeline.example:0/", "a port that does not exist"),
        ("https://pipeline.example/\n", "is not a URL"),
        ("http://pipeline.internal/", "not behind https"),
        ("http://pipeline.internal/hooks/../admin", "not behind https"),
        ("http://pipeline.internal/hooks/%2e%2e/admin", "not behind https"),
        ("http://pipeline.internal.example/hooks/", "not behind https"),
        ("http://pipeline.internal:8080/hooks/", "not behind https"),
    ],
)
def test_what_may_receive_nothing_is_refused_before_it_is_resolved(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("resolved"))
    for receivers in (PUBLIC, INSIDE):
        with pytest.raises(UnsafeReference, match=words) as caught:
            receivers.check(url, field="url")
        assert caught.value.field == "url"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "[::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a00:1::]",
        "224.0.0.1",
        "0x7f.1",
        "2130706433",
        "localhost",
    ],
)
def test_hosts_inside_the_network_are_refused(host: str) -> None:
    url = PUBLIC.check(f"https://{host}/hooks", field="url")
    with pytest.raises(UnsafeReference, match=r"not a public address.*AUDIT_WEBHOOK_PREFIXES"):
        PUBLIC.resolve(url, field="url")


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(UnsafeReference, match=r"10\.0\.0\.1"):
        PUBLIC.resolve(PUBLIC.check("https://pipeline.example/", field="url"), field="url")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "a" * 64])
def test_a_host_without_an_address_is_unreachable(host: str) -> None:
    with pytest.raises(UnreachableResource, match="cannot be resolved"):
        PUBLIC.resolve(PUBLIC.check(f"https://{host}/", field="url"), field="url")


def test_the_operator_allows_receivers_by_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = INSIDE.check("HTTP://pipeline.INTERNAL/hooks/audits?token=1", field="url")
    assert [str(address) for address in INSIDE.resolve(url, field="url")] == ["10.0.0.1"]
    assert asked == [("pipeline.internal", 80)]
    with pytest.raises(UnsafeReference, match="not a public address"):
        INSIDE.resolve(INSIDE.check("https://pipeline.internal/hooks/", field="url"), field="url")


def test_a_prefix_ends_a_segment() -> None:
    with pytest.raises(ValueError, match=r"webhook_prefixes: 'http://pipeline' must start with .* and end in /"):
        Settings(webhook_prefixes=("http://pipeline",))
    with pytest.raises(ValueError, match="must start with http:// or https://"):
        Settings(webhook_prefixes=("ftp://pipeline/",))
