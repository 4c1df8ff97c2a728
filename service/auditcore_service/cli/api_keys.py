"""The commands `keys`: API keys, by somebody who has the database."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.table import Table
from sqlalchemy import make_url

from auditcore_service.cli.outcome import CommandError, err, out
from auditcore_service.cli.starting import check_database, check_folder
from auditcore_service.principals import ROLES, SCOPES, Principal, Scope, operator
from auditcore_service.settings import Settings
from auditcore_service.store.api_keys import ApiKey
from auditcore_service.store.database import Database
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.api_key_secrets import PREFIX
from auditcore_service.use_cases.api_keys import LONGEST_GRACE_S, NAME_PATTERN, ApiKeys
from auditcore_service.use_cases.refusals import Refusal

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_PAGE: Final = 100


def create_key(
    settings: Settings, tenant: str, name: str, *, roles: Sequence[str], scopes: Sequence[str], expires: str
) -> None:
    """Make a key and print its secret.

    Raises:
        CommandError: An option is wrong, or the name was used before.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        message = f"{name!r} is not the name of a key; use letters, digits and . _ @ + -, at most 64"
        raise CommandError(message)
    wanted = _scopes(roles, scopes)
    life = None if expires == "never" else _seconds(expires, "--expires")
    with _keys(settings, tenant, make=True) as (keys, principal):
        key, secret = keys.create(
            principal, name=name, scopes=wanted, expires_at=None if life is None else time.time() + life
        )
    _show_secret(key, secret, "made")
    if settings.authentication != "required":
        err.print(
            "note: a service looks at keys only with AUDIT_AUTHENTICATION=required", highlight=False, markup=False
        )


def list_keys(settings: Settings, tenant: str, *, as_json: bool) -> None:
    """Print the keys of a tenant.

    Raises:
        CommandError: An option is wrong, or there is no database.
    """
    found: list[ApiKey] = []
    with _keys(settings, tenant) as (keys, principal):
        cursor: str | None = None
        while True:
            page, cursor = keys.page(principal, cursor=cursor, limit=_PAGE)
            found += page
            if cursor is None:
                break
    if as_json:
        hidden = {"secret_digest", "previous_digest"}
        entries = [
            {
                field: rfc3339(value) if isinstance(value, float) else value
                for field, value in dataclasses.asdict(key).items()
                if field not in hidden
            }
            for key in found
        ]
        print(json.dumps(entries, indent=2))  # noqa: T201 - read by programs
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("id", "name", "scopes", "state", "last used"):
        table.add_column(title, no_wrap=title == "id", overflow="fold")
    for key in found:
        used = "never" if key.last_used_at is None else rfc3339(key.last_used_at)
        table.add_row(f"{PREFIX}{key.id}", key.name, " ".join(key.scopes), _state(key), used)
    out.print(table)


def rotate_key(settings: Settings, tenant: str, key_id: str, *, grace: str) -> None:
    """Give a key another secret and print it.

    Raises:
        CommandError: An option is wrong, or the key has ended.
    """
    grace_s = _seconds(grace, "--grace")
    if grace_s > LONGEST_GRACE_S:
        message = f"--grace {grace} is too long; write at most {LONGEST_GRACE_S // _SECONDS['d']}d"
        raise CommandError(message)
    with _keys(settings, tenant) as (keys, principal):
        key, secret = keys.rotate(principal, key_id.removeprefix(PREFIX), grace_s=grace_s)
    _show_secret(key, secret, "rotated")
    if key.previous_until is not None:
        err.print(f"the secret before is accepted until {rfc3339(key.previous_until)}", highlight=False)


def revoke_key(settings: Settings, tenant: str, key_id: str) -> None:
    """Revoke a key.

    Raises:
        CommandError: An option is wrong, or there is no such key.
    """
    with _keys(settings, tenant) as (keys, principal):
        key = keys.revoke(principal, key_id.removeprefix(PREFIX))
    err.print(f"key {PREFIX}{key.id} ({key.name}) is revoked", highlight=False, markup=False)


@contextmanager
def _keys(settings: Settings, tenant: str, *, make: bool = False) -> Iterator[tuple[ApiKeys, Principal]]:
    """The use cases on the database of the settings, and the operator for a tenant.

    Args:
        settings: They name the database.
        tenant: Whose keys they are.
        make: Whether a database that does not exist yet is made.

    Raises:
        CommandError: The tenant or the database is wrong, or the use case refuses.
    """
    try:
        principal = operator(tenant)
    except ValueError as error:
        message = f"--tenant {error}"
        raise CommandError(message) from error
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        if not make:
            message = (
                f"there is no database {url.database}; name the folder of the service with --data, or its database "
                "with AUDIT_DATABASE_URL"
            )
            raise CommandError(message)
        if settings.database_url is None:
            check_folder(settings)
    check_database(settings)
    database = Database(settings.database)
    try:
        database.migrate()
        yield ApiKeys(database=database), principal
    except Refusal as error:
        raise CommandError(error.message, code=error.code) from error
    finally:
        database.close()


def _scopes(roles: Sequence[str], scopes: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes of roles and those named one by one.

    Raises:
        CommandError: One is unknown, or there are none.
    """
    for given, known, option in ((roles, ROLES, "--role"), (scopes, SCOPES, "--scope")):
        for name in given:
            if name not in known:
                message = f"{option} {name!r} is unknown; use one of {', '.join(known)}"
                raise CommandError(message)
    wanted = {*scopes, *(scope for role in roles for scope in ROLES[role])}
    if not wanted:
        message = f"say what the key may do: --role with one of {', '.join(ROLES)}, or --scope"
        raise CommandError(message)
    return tuple(scope for scope in SCOPES if scope in wanted)


def _seconds(span: str, option: str) -> int:
    """The length of a span such as `90d`.

    Raises:
        CommandError: It is none.
    """
    found = re.fullmatch(r"(\d{1,6})([mhd])", span)
    if found is None:
        message = (
            f"{option} {span!r} is not a span of time; write it in days, hours or minutes, such as 90d, 12h or 30m"
        )
        raise CommandError(message)
    return int(found[1]) * _SECONDS[found[2]]


def _show_secret(key: ApiKey, secret: str, action: str) -> None:
    print(secret)  # noqa: T201 - read by programs
    end = "never expires" if key.expires_at is None else f"expires {rfc3339(key.expires_at)}"
    err.print(
        f"key {PREFIX}{key.id} ({key.name}) of tenant {key.tenant} is {action}: {' '.join(key.scopes)}; {end}. "
        "Its secret is the line above, and is shown only now",
        highlight=False,
        markup=False,
    )


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {rfc3339(key.revoked_at)}"
    if key.expires_at is None:
        return "never expires"
    return f"{'expired' if key.expires_at <= time.time() else 'expires'} {rfc3339(key.expires_at)}"
