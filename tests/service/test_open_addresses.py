"""Without authentication the service listens only where nobody else can reach it, unless it is told so by name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from auditcore_service.settings import Settings
from auditcore_service.startup import ExposedWithoutAuthentication, open_listener
from command_line import run

LOCAL = ("127.0.0.1", "127.9.9.9", "localhost", "::1")
OPEN = ("0.0.0.0", "::", "", "0")  # noqa: S104 - addresses to refuse


def settings(host: str, **changes: object) -> Settings:
    return Settings.model_validate({"host": host, "port": 0, **changes})


@pytest.mark.parametrize("host", LOCAL)
def test_an_address_of_this_machine_needs_nothing(host: str) -> None:
    with open_listener(settings(host)) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", OPEN)
def test_an_open_address_needs_authentication_or_its_name(host: str) -> None:
    with pytest.raises(ExposedWithoutAuthentication) as raised:
        open_listener(settings(host))
    message = str(raised.value)
    for way in ("AUDIT_AUTHENTICATION=required", "auditcore keys create", f"AUDIT_UNAUTHENTICATED_HOST={host}"):
        assert way in message
    with open_listener(settings(host, authentication="required")) as listener:
        assert listener.getsockname()[1] > 0
    with open_listener(settings(host, unauthenticated_host=host)) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("named", ["127.0.0.1", "::", "*", "true", "0.0.0.0 "])
def test_another_name_opens_nothing(named: str) -> None:
    with pytest.raises(ExposedWithoutAuthentication, match="which is another"):
        open_listener(settings("0.0.0.0", unauthenticated_host=named))  # noqa: S104 - an address to refuse


def test_a_name_counts_by_the_address_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver may say that a name which sounds local is not."""
    bind = socket.socket.bind
    monkeypatch.setattr(
        socket.socket,
        "bind",
        lambda self, address: bind(self, ("0.0.0.0" if address[0] == "localhost" else "x", 0)),  # noqa: S104
    )
    with pytest.raises(ExposedWithoutAuthentication, match=r"'localhost' \(0\.0\.0\.0\)"):
        open_listener(settings("localhost"))


@pytest.mark.parametrize("command", ["serve", "gateway"])
def test_both_commands_refuse_to_start(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AUDIT_HOST", "0.0.0.0")  # noqa: S104 - an address to refuse
    monkeypatch.setenv("AUDIT_PORT", "0")
    monkeypatch.setenv("AUDIT_QUEUE", "database")
    done = run(command)
    assert done.exit_code == 2
    assert "AUDIT_UNAUTHENTICATED_HOST=0.0.0.0" in done.stderr
