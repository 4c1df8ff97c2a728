"""The commands `tenants list`, `tenants show` and `tenants set`, for the operator, who has the database."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, get_args

from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.cli.outcome import CommandError
from auditcore_service.principals import TENANT_PATTERN
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.tenants import NO_LIMIT, Tenant, TenantSetting, find_tenant, list_tenants, set_tenant
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.quotas import Quotas

_SETTINGS: Final[tuple[TenantSetting, ...]] = get_args(TenantSetting)

_LARGEST: Final = 2**63 - 1
"""The largest number that the column of a setting takes."""

_LEAST: Final[Mapping[TenantSetting, int]] = {"requests_per_minute": 1, "retention_days": 1}
"""Smallest value of a setting, where it is not 0: a tenant that may send no request could not even ask why."""


@contextmanager
def tenants_database(settings: Settings) -> Iterator[Database]:
    """The database of a service, up to date.

    Raises:
        CommandError: There is none yet, or it does not answer.
    """
    url = make_url(settings.database)
    # SQLite would make a new database, which no service reads
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        message = f"there is no database {url.database}; start the service once, or check --data and AUDIT_DATABASE_URL"
        raise CommandError(message)
    database = Database(settings.database)
    try:
        database.migrate()
        yield database
    except SQLAlchemyError as error:
        message = f"the database does not answer ({str(error).splitlines()[0]}); check AUDIT_DATABASE_URL"
        raise CommandError(message) from error
    finally:
        database.close()


def show_tenants(database: Database, console: Console) -> None:
    """Print every tenant with its settings."""
    with database.reading() as connection:
        tenants = list_tenants(connection)
    rows = [(one.name, rfc3339(one.created_at), *(_text(getattr(one, name)) for name in _SETTINGS)) for one in tenants]
    _print_table(("name", "created_at", *_SETTINGS), rows, console)


def show_tenant(database: Database, settings: Settings, name: str, console: Console) -> None:
    """Print the settings of a tenant, the limits in force and what is used of them.

    Raises:
        CommandError: It has no settings of its own.
    """
    with database.reading() as connection:
        tenant = find_tenant(connection, name)
    if tenant is None:
        message = (
            f"tenant {name!r} has no settings, so the defaults of the deployment are in force; "
            f"`auditcore tenants set {name}` creates it"
        )
        raise CommandError(message)
    usage = Quotas(settings, database=database).usage(name)
    limits = usage.limits
    # requests are counted by gateways, not in the database
    rows = [
        _row(tenant, "requests_per_minute", limits.requests_per_minute, None),
        _row(tenant, "running_audits", limits.running_audits, usage.running_audits),
        _row(tenant, "passes_per_day", limits.passes_per_day, usage.passes_today),
        _row(tenant, "stored_bytes", limits.stored_bytes, usage.stored_bytes),
    ]
    _print_table(("limit", "setting", "in_force", "used"), rows, console)


def change_tenant(database: Database, name: str, given: Mapping[TenantSetting, str | None]) -> Tenant:
    """Create a tenant or change its settings.

    Args:
        database: The database of the service.
        name: Name of the tenant.
        given: Settings as the command line has them; None leaves one as it is.

    Raises:
        CommandError: The name or a value is not valid.
    """
    if not re.fullmatch(TENANT_PATTERN, name):
        message = f"{name[:80]!r} cannot be the name of a tenant; use small letters, digits and hyphens, at most 63"
        raise CommandError(message)
    values = {setting: _value(setting, text) for setting, text in given.items() if text is not None}
    with database.writing(name) as connection:
        return set_tenant(connection, name, values, now=time.time())


def _value(setting: TenantSetting, text: str) -> int | None:
    if text in {"default", "none"}:
        return None if text == "default" else NO_LIMIT
    least = _LEAST.get(setting, 0)
    if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) <= _LARGEST:
        option = f"--{setting.replace('_', '-')}"
        message = f"{option} is {text[:40]!r}; write a whole number from {least}, `none` or `default`"
        raise CommandError(message)
    return int(text)


def _row(tenant: Tenant, setting: TenantSetting, in_force: int | None, used: int | None) -> Sequence[str]:
    return (
        setting,
        _text(getattr(tenant, setting)),
        "none" if in_force is None else str(in_force),
        "-" if used is None else str(used),
    )


def _text(value: int | None) -> str:
    return "default" if value is None else "none" if value == NO_LIMIT else str(value)


def _print_table(header: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Print columns as wide as their longest cell; a line is never broken, so that programs can read it."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        console.print(text, highlight=False, markup=False, soft_wrap=True)
