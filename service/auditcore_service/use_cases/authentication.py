"""From credentials to a principal."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Final, final

import structlog

from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.settings import Settings
from auditcore_service.store.api_keys import ApiKey, find_api_key, has_usable_api_key
from auditcore_service.store.database import Database
from auditcore_service.store.tenancy import EVERY_TENANT
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.api_key_secrets import PREFIX, digest_of_secret, key_id_in
from auditcore_service.use_cases.last_uses import LastUses
from auditcore_service.use_cases.oidc import KEY_NAME_PREFIX, OidcTokens
from auditcore_service.use_cases.refusals import CredentialsInvalid, CredentialsMissing

log = structlog.get_logger(__name__)

_NO_DIGEST: Final = f"sha256:{'0' * 64}"
"""The digest of no secret, to compare with where there is none, so that both cases take the same time."""


@final
class Authentication:
    """The use cases."""

    def __init__(self, settings: Settings, *, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._tokens = None if settings.oidc_issuer is None else OidcTokens(settings, clock=clock)
        self._uses = LastUses(database=database)
        self.required = settings.authentication == "required"

    def start(self) -> None:
        """Begin to store uses of keys. If nobody could get in, say how to make a key."""
        if not self.required:
            return
        self._uses.start()
        if self._tokens is not None:
            return
        with self._database.reading(EVERY_TENANT) as connection:
            if not has_usable_api_key(connection, now=self._clock()):
                log.warning("no_api_key", make_one="auditcore keys create NAME --role admin")

    def stop(self) -> None:
        """Store the uses that are left."""
        self._uses.stop()

    def principal(self, authorization: str | None) -> Principal:
        """Who sent a request.

        Args:
            authorization: The header `Authorization`; None without one.

        Raises:
            CredentialsMissing: Credentials are needed, and there are none.
            CredentialsInvalid: They are wrong, or no longer valid.
            IssuerUnavailable: A token cannot be checked now.
        """
        if not self.required:
            return ANONYMOUS
        scheme, _, credentials = (authorization or "").strip().partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            msg = (
                "this service answers only those it knows; send the header `Authorization: Bearer ` with an API key"
                f"{'' if self._tokens is None else ' or a token'}; the operator makes keys with `auditcore keys create`"
            )
            raise CredentialsMissing(msg)
        if credentials.startswith(PREFIX):
            return self._of_api_key(credentials)
        if self._tokens is not None:
            return self._tokens.principal(credentials)
        msg = f"these credentials are no API key of this service, which begins with {PREFIX}; ask its operator for one"
        raise CredentialsInvalid(msg)

    def _of_api_key(self, text: str) -> Principal:
        key_id = key_id_in(text)
        if key_id is None:
            msg = "the API key is cut off or mistyped: its checksum is wrong; copy it again"
            raise CredentialsInvalid(msg)
        # the tenant follows from the key, so that it is looked up among those of all
        with self._database.reading(EVERY_TENANT) as connection:
            key = find_api_key(connection, key_id)
        now = self._clock()
        if not _fits(key, digest_of_secret(text), now=now) or key is None:
            msg = "this API key is unknown, or was replaced by a rotation; ask the operator for a new one"
            raise CredentialsInvalid(msg)
        if key.revoked_at is not None:
            msg = f"the API key {key.name!r} was revoked at {rfc3339(key.revoked_at)}; ask the operator for a new one"
            raise CredentialsInvalid(msg)
        if key.expires_at is not None and key.expires_at <= now:
            msg = f"the API key {key.name!r} expired at {rfc3339(key.expires_at)}; ask the operator for a new one"
            raise CredentialsInvalid(msg)
        self._uses.note(key.id, now)
        return Principal(key.tenant, f"{KEY_NAME_PREFIX}{key.name}", frozenset(key.scopes))


def _fits(key: ApiKey | None, digest: str, *, now: float) -> bool:
    """Whether a digest is that of a secret of the key, compared in constant time."""
    current = _NO_DIGEST if key is None else key.secret_digest
    previous = _NO_DIGEST
    if key is not None and key.previous_digest is not None and now < (key.previous_until or 0.0):
        previous = key.previous_digest
    matches = (hmac.compare_digest(digest, current), hmac.compare_digest(digest, previous))
    return any(matches)
