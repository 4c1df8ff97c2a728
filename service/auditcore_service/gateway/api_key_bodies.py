"""Bodies of `/v1/api-keys`."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import AwareDatetime, Field, StringConstraints

from auditcore_service.gateway.schemas import Body
from auditcore_service.principals import Scope
from auditcore_service.use_cases.api_keys import GRACE_S, LONGEST_GRACE_S, NAME_PATTERN


@final
class NewApiKey(Body):
    """A key to make."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(
        description="What to call it; the event log writes `key:` and this name. A name is never used twice."
    )
    scopes: tuple[Scope, ...] = Field(
        min_length=1, description="What it may do; you can give only scopes that you have yourself."
    )
    expires_at: AwareDatetime | None = Field(
        description="When it ends, RFC 3339 with an offset; null for a key without an end. It has to be said."
    )


@final
class Rotation(Body):
    """How to give a key another secret."""

    grace_s: int = Field(
        default=GRACE_S,
        ge=0,
        le=LONGEST_GRACE_S,
        description="Seconds for which the secret before is accepted as well; 0 ends it at once.",
    )


@final
class ApiKeyEntry(Body):
    """An API key, without its secret. Times are RFC 3339, UTC.

    Attributes:
        id: Its id.
        prefix: What its secret begins with, to find it where it is used.
        name: What to call it.
        scopes: What it may do.
        created_at: When it was made.
        created_by: Who made it; null if the service did not know who asked.
        expires_at: When it ends; null for a key without an end.
        rotated_at: When it got its present secret; null for its first.
        previous_until: Until when the secret before is accepted; null if there was none.
        revoked_at: When it was revoked; null for one that was not.
        last_used_at: When it was last used, to about a minute; null if never.
    """

    id: str
    prefix: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    created_by: str | None = None
    expires_at: str | None = None
    rotated_at: str | None = None
    previous_until: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None


@final
class IssuedApiKey(Body):
    """A key with a new secret.

    Attributes:
        api_key: The key.
    """

    api_key: ApiKeyEntry
    secret: str = Field(
        description="To be sent as `Authorization: Bearer ...`. It is shown only now, and stored nowhere."
    )


@final
class ApiKeyPage(Body):
    """Keys of your tenant, newest first; revoked and expired ones stay listed.

    Attributes:
        items: The keys.
    """

    items: tuple[ApiKeyEntry, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")
