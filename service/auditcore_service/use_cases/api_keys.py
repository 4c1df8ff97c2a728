"""What can be done with API keys: make, list, give another secret, revoke. Knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final, final

from sqlalchemy import Connection

from auditcore_service.principals import SCOPES, Principal, Scope
from auditcore_service.store.api_keys import (
    ApiKey,
    find_api_key,
    insert_api_key,
    list_api_keys,
    lock_api_key,
    replace_secret,
    revoke_api_key,
)
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.api_key_secrets import PREFIX, digest_of_secret, new_secret
from auditcore_service.use_cases.cursors import decode_cursor, encode_cursor
from auditcore_service.use_cases.refusals import ApiKeyEnded, ApiKeyExists, InvalidExpiry, NotFound, ScopeMissing

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
"""A name is one word, because the event log writes it."""

GRACE_S: Final = 86_400
"""How long the secret before a rotation is accepted if nothing else is said: time to bring out the new one."""

LONGEST_GRACE_S: Final = 30 * 86_400

LONGEST_LIFE_S: Final = 3653 * 86_400


@final
class ApiKeys:
    """The use cases."""

    def __init__(self, *, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, principal: Principal, *, name: str, scopes: Collection[Scope], expires_at: float | None
    ) -> tuple[ApiKey, str]:
        """Make a key of the principal's tenant.

        Args:
            principal: Who makes it.
            name: What to call it; never used before in the tenant.
            scopes: What it may do; at least one.
            expires_at: When it ends, seconds since 1970; None for never.

        Returns:
            The key and its secret, which is stored nowhere and never shown again.

        Raises:
            ScopeMissing: It would have scopes that the principal lacks.
            InvalidExpiry: It would end before it begins, or in more than ten years.
            ApiKeyExists: The name is taken.
        """
        _check_scopes(principal, scopes, field="scopes")
        now = self._clock()
        if expires_at is not None and not now < expires_at <= now + LONGEST_LIFE_S:
            msg = (
                "a key ends in the future, and within ten years; choose such a time, or let it have no end and revoke "
                "it one day"
            )
            raise InvalidExpiry(msg, field="expires_at")
        secret = new_secret()
        with self._database.writing(principal.tenant) as connection:
            key = insert_api_key(
                connection,
                key_id=secret.key_id,
                name=name,
                scopes=_ordered(scopes),
                secret_digest=digest_of_secret(secret.text),
                created_by=principal.name,
                expires_at=expires_at,
                now=now,
            )
            if key is None:
                msg = (
                    f"there is or was a key named {name!r}, and a name is never reused, because the event log writes "
                    "names; choose another name, or rotate the key"
                )
                raise ApiKeyExists(msg, field="name")
            self._log(connection, principal, key, "created", now=now)
        return key, secret.text

    def page(self, principal: Principal, *, cursor: str | None, limit: int) -> tuple[tuple[ApiKey, ...], str | None]:
        """Keys of the principal's tenant, newest first, and the cursor of the next page.

        Raises:
            InvalidCursor: The cursor was not issued by this service.
        """
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading(principal.tenant) as connection:
            found = list_api_keys(connection, after=after, limit=limit + 1)
        keys = found[:limit]
        following = encode_cursor(keys[-1].created_at, keys[-1].id) if len(found) > limit else None
        return keys, following

    def get(self, principal: Principal, key_id: str) -> ApiKey:
        """One key.

        Raises:
            NotFound: The tenant has none with this id.
        """
        with self._database.reading(principal.tenant) as connection:
            return _found(find_api_key(connection, key_id), key_id)

    def rotate(self, principal: Principal, key_id: str, *, grace_s: float) -> tuple[ApiKey, str]:
        """Give a key another secret. Its name, id and scopes stay; if it expires, it is as long-lived as before.

        Args:
            principal: Who does it.
            key_id: The key.
            grace_s: How long the secret before is accepted as well, in seconds; 0 ends it at once.

        Returns:
            The key and its new secret, which is stored nowhere and never shown again.

        Raises:
            NotFound: The tenant has none with this id.
            ScopeMissing: The key has scopes that the principal lacks, and its secret would give them away.
            ApiKeyEnded: It was revoked, or has expired.
        """
        secret = new_secret(key_id)
        with self._database.writing(principal.tenant) as connection:
            now = self._clock()
            key = _found(lock_api_key(connection, key_id), key_id)
            _check_scopes(principal, key.scopes, field=None)
            if key.revoked_at is not None:
                msg = f"the key {key.name!r} was revoked at {rfc3339(key.revoked_at)}; make a new one"
                raise ApiKeyEnded(msg)
            if key.expires_at is not None and key.expires_at <= now:
                msg = f"the key {key.name!r} expired at {rfc3339(key.expires_at)}; make a new one"
                raise ApiKeyEnded(msg)
            previous_until, expires_at = now + grace_s, None
            if key.expires_at is not None:
                previous_until = min(previous_until, key.expires_at)
                expires_at = now + key.expires_at - (key.rotated_at or key.created_at)
            replace_secret(
                connection,
                key,
                secret_digest=digest_of_secret(secret.text),
                previous_until=previous_until,
                expires_at=expires_at,
                now=now,
            )
            rotated = _found(find_api_key(connection, key_id), key_id)
            self._log(connection, principal, rotated, "rotated", now=now)
        return rotated, secret.text

    def revoke(self, principal: Principal, key_id: str) -> ApiKey:
        """Revoke a key, at once and for good; to revoke it again changes nothing.

        Raises:
            NotFound: The tenant has none with this id.
        """
        with self._database.writing(principal.tenant) as connection:
            now = self._clock()
            key = _found(lock_api_key(connection, key_id), key_id)
            if key.revoked_at is not None:
                return key
            revoke_api_key(connection, key_id, now=now)
            revoked = _found(find_api_key(connection, key_id), key_id)
            self._log(connection, principal, revoked, "revoked", now=now)
        return revoked

    def _log(self, connection: Connection, principal: Principal, key: ApiKey, action: str, *, now: float) -> None:
        data: dict[str, Any] = {"action": action, "name": key.name}
        if action != "revoked":
            data["scopes"] = list(key.scopes)
            data["expires_at"] = None if key.expires_at is None else rfc3339(key.expires_at)
        if action == "rotated" and key.previous_until is not None:
            data["previous_until"] = rfc3339(key.previous_until)
        append_entry(
            connection,
            "api_key",
            f"{PREFIX}{key.id}",
            data,
            now=now,
            principal=principal.name,
        )


def _found(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        msg = f"there is no API key {key_id[:64]!r}; list the keys to see those that there are"
        raise NotFound(msg)
    return key


def _check_scopes(principal: Principal, scopes: Collection[Scope], *, field: str | None) -> None:
    missing = _ordered(set(scopes) - principal.scopes)
    if missing:
        msg = (
            f"you lack {', '.join(missing)}, and nobody can give away what they lack; "
            "ask somebody who has these scopes, or the operator"
        )
        raise ScopeMissing(msg, scopes=missing, field=field)


def _ordered(scopes: Collection[Scope]) -> tuple[Scope, ...]:
    return tuple(scope for scope in SCOPES if scope in scopes)
