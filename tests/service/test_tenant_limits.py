"""Limits of tenants, and what they use of them, in the database and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from typer.testing import CliRunner, Result

from auditcore_service.cli.commands import app
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.tables import TENANTS
from auditcore_service.store.tenants import NO_LIMIT, find_tenant, list_tenants, set_tenant
from auditcore_service.store.usage import add_passes, lock_usage, submitted_passes
from auditcore_service.use_cases.quotas import TenantLimits, limits_in_force

MIDNIGHT = 1_795_737_600.0
"""2026-11-27 in UTC."""


def test_the_default_tenant_is_there_from_the_start(database: Database) -> None:
    with database.reading() as connection:
        (tenant,) = list_tenants(connection)
    assert tenant.name == "default"
    assert tenant.created_at > MIDNIGHT - 86_400 * 365


def test_settings_are_changed_one_by_one(database: Database) -> None:
    with database.writing("research") as connection:
        made = set_tenant(connection, "research", {"running_audits": 4}, now=1.0)
        changed = set_tenant(connection, "research", {"stored_bytes": NO_LIMIT}, now=2.0)
        assert set_tenant(connection, "research", {}, now=3.0) == changed
    assert (made.created_at, made.running_audits, made.stored_bytes) == (1.0, 4, None)
    assert (changed.created_at, changed.running_audits, changed.stored_bytes) == (1.0, 4, NO_LIMIT)
    with database.reading("research") as connection:
        assert find_tenant(connection, "research") == changed
        assert find_tenant(connection, "nobody") is None


def test_a_limit_of_a_tenant_comes_before_that_of_the_deployment(database: Database) -> None:
    settings = Settings(requests_per_minute=600, running_audits=8, passes_per_day=1000)
    assert limits_in_force(settings, None) == TenantLimits(600, 8, 1000, None)
    with database.writing("research") as connection:
        own = {"running_audits": 0, "passes_per_day": NO_LIMIT, "stored_bytes": 5}
        tenant = set_tenant(connection, "research", own, now=1.0)  # type: ignore[arg-type]  # names of settings
    assert limits_in_force(settings, tenant) == TenantLimits(600, 0, None, 5)


def test_passes_add_up_until_midnight_and_belong_to_one_tenant(database: Database) -> None:
    for tenant, passes, now in (
        ("research", 5, MIDNIGHT - 0.01),
        ("research", 30, MIDNIGHT),
        ("research", 12, MIDNIGHT + 86_399),
        ("other", 7, MIDNIGHT),
    ):
        with database.writing(tenant) as connection:
            lock_usage(connection, tenant)
            add_passes(connection, tenant, passes, now=now)
    with database.reading("research") as connection:
        assert submitted_passes(connection, "research", now=MIDNIGHT + 3600) == 42
        assert submitted_passes(connection, "research", now=MIDNIGHT + 86_400) == 0


def test_postgresql_shows_a_tenant_only_its_own_rows(new_postgres_url: str) -> None:
    database = Database(new_postgres_url)
    database.migrate()

    def execute(connection: sqlalchemy.Connection, *statements: str) -> None:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))

    # the service's role in these tests is a superuser, for whom PostgreSQL makes an exception
    with database.writing("research") as connection:
        set_tenant(connection, "research", {}, now=1.0)
        execute(connection, "CREATE ROLE ordinary", "GRANT ALL ON tenants, daily_passes TO ordinary")
    try:
        for tenant, seen in (("research", {"research"}), ("*", {"default", "research"}), ("other", set[str]())):
            with database.reading(tenant) as connection:
                execute(connection, "SET LOCAL ROLE ordinary")
                assert set(connection.execute(sqlalchemy.select(TENANTS.c.name)).scalars()) == seen
        with database.writing("other") as connection:
            execute(connection, "SET LOCAL ROLE ordinary")
            with pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
                add_passes(connection, "research", 1, now=MIDNIGHT)
            connection.rollback()
    finally:
        with database.writing() as connection:
            execute(connection, "DROP OWNED BY ordinary", "DROP ROLE ordinary")
        database.close()


@pytest.fixture
def auditcore(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `auditcore tenants` against the database of a service."""
    settings = make_settings()
    database = Database(settings.database)
    database.migrate()
    database.close()
    monkeypatch.setenv("AUDIT_RUNNING_AUDITS", "8")

    def run(*arguments: str, data: Path = settings.data_dir) -> Result:
        return CliRunner().invoke(app, ["tenants", *arguments, "--data", str(data)])

    return run


def cells(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_the_operator_sets_and_shows_limits(auditcore: Callable[..., Result]) -> None:
    given = ("--running-audits", "4", "--passes-per-day", "none", "--retention-days", "90")
    assert auditcore("set", "research", *given).exit_code == 0
    assert auditcore("set", "research", "--stored-bytes", "1000", "--running-audits", "default").exit_code == 0
    header, default, research = cells(auditcore("list"))
    assert header[2:] == ["requests_per_minute", "running_audits", "passes_per_day", "stored_bytes", "retention_days"]
    assert (default[0], default[2:]) == ("default", 5 * ["default"])
    assert (research[0], research[2:]) == ("research", ["default", "default", "none", "1000", "90"])
    assert cells(auditcore("show", "research")) == [
        ["limit", "setting", "in_force", "used"],
        ["requests_per_minute", "default", "none", "-"],
        ["running_audits", "default", "8", "0"],
        ["passes_per_day", "none", "none", "0"],
        ["stored_bytes", "1000", "1000", "0"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "Research"), "cannot be the name of a tenant; use small letters"),
        (("set", "a", "--stored-bytes", "1 GB"), "--stored-bytes is '1 GB'; write a whole number from 0"),
        (("set", "a", "--stored-bytes=-1"), "--stored-bytes is '-1'; write a whole number from 0"),
        (("set", "a", "--requests-per-minute", "0"), "write a whole number from 1"),
        (("set", "a", "--passes-per-day", str(2**63)), "write a whole number from 0"),
        (("show", "research"), "`auditcore tenants set research` creates it"),
    ],
)
def test_a_mistake_of_the_operator_is_explained(
    auditcore: Callable[..., Result], arguments: tuple[str, ...], message: str
) -> None:
    result = auditcore(*arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert len(cells(auditcore("list"))) == 2


def test_no_database_is_made_by_looking(auditcore: Callable[..., Result], tmp_path: Path) -> None:
    result = auditcore("list", data=tmp_path / "elsewhere")
    assert (result.exit_code, "there is no database" in result.stderr) == (2, True)
    assert not (tmp_path / "elsewhere").exists()
