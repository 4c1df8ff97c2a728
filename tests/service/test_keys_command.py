"""`auditcore keys`: what it makes, what it prints where, and what it refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from auditcore_service.principals import ROLES
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import read_log
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.refusals import CredentialsInvalid
from command_line import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def authentication(folder: Path) -> Authentication:
    settings = Settings(data_dir=folder, authentication="required")
    return Authentication(settings, database=Database(settings.database))


def test_a_key_is_made_rotated_and_revoked_before_there_is_a_service(
    folder: Path, authentication: Authentication
) -> None:
    made = run("keys", "create", "nightly", "--tenant", "acme", "--role", "pipeline", "--data", folder)
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret not in made.stderr
    assert "nightly" in made.stderr
    found = authentication.principal(f"Bearer {secret}")
    assert (found.tenant, found.name, found.scopes) == ("acme", "key:nightly", set(ROLES["pipeline"]))
    key_id = secret[:11]

    rotated = run("keys", "rotate", key_id, "--tenant", "acme", "--grace", "0d", "--data", folder)
    new = rotated.stdout.strip()
    assert authentication.principal(f"Bearer {new}") == found
    with pytest.raises(CredentialsInvalid):
        authentication.principal(f"Bearer {secret}")

    listed = run("keys", "list", "--tenant", "acme", "--data", folder)
    assert f"{key_id}" in listed.stdout
    assert "nightly" in listed.stdout
    assert new not in listed.stdout
    (entry,) = json.loads(run("keys", "list", "--tenant", "acme", "--json", "--data", folder).stdout)
    assert (entry["created_by"], entry["name"]) == ("operator", "nightly")
    assert rfc3339(time.time() + 89.9 * 86_400) < entry["expires_at"] < rfc3339(time.time() + 90.1 * 86_400)
    assert not any("digest" in name for name in entry)
    assert json.loads(run("keys", "list", "--json", "--data", folder).stdout) == []

    other = run("keys", "revoke", key_id, "--data", folder)
    assert other.exit_code == 2
    assert "not_found" in other.stderr
    assert run("keys", "revoke", key_id, "--tenant", "acme", "--data", folder).exit_code == 0
    with pytest.raises(CredentialsInvalid, match="revoked"):
        authentication.principal(f"Bearer {new}")

    database = Database(Settings(data_dir=folder).database)
    with database.reading("acme") as connection:
        entries = read_log(connection, limit=9)
    database.close()
    assert [(one.principal, one.data["action"]) for one in entries] == [
        ("operator", "created"),
        ("operator", "rotated"),
        ("operator", "revoked"),
    ]


def test_roles_and_scopes_add_up_and_a_key_may_be_without_end(folder: Path) -> None:
    options = ("--role", "reader", "--role", "monitoring", "--scope", "audits:sign", "--expires", "never")
    assert run("keys", "create", "k", *options, "--data", folder).exit_code == 0
    (entry,) = json.loads(run("keys", "list", "--json", "--data", folder).stdout)
    assert entry["scopes"] == ["audits:read", "audits:sign", "log:read", "metrics:read"]
    assert entry["expires_at"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "k"), "say what the key may do"),
        (("create", "k", "--role", "king"), "use one of pipeline"),
        (("create", "k", "--scope", "audits"), "use one of audits:read"),
        (("create", "two words", "--role", "reader"), "name of a key"),
        (("create", "k", "--role", "reader", "--tenant", "Acme Corp"), "name of a tenant"),
        (("create", "k", "--role", "reader", "--expires", "90"), "such as 90d"),
        (("create", "k", "--role", "reader", "--expires", "0d"), "in the future"),
        (("create", "k", "--role", "reader", "--expires", "9999d"), "within ten years"),
        (("rotate", "ac_abcdefgh", "--grace", "31d"), "at most 30d"),
        (("rotate", "ac_abcdefgh"), "there is no database"),
        (("list",), "there is no database"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_made(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("keys", *arguments, "--data", folder)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert done.stdout == ""
    database = folder / "auditcore.db"
    assert not database.exists() or json.loads(run("keys", "list", "--json", "--data", folder).stdout) == []


def test_a_database_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://user:swordfish@127.0.0.1:9/none")
    done = run("keys", "list")
    assert done.exit_code == 2
    assert "the database does not answer" in done.stderr
    assert "swordfish" not in done.output
