"""Who asks: the principal of a request, its tenant, and what it may do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, final, get_args

Scope = Literal[
    "audits:read",
    "audits:write",
    "audits:sign",
    "audits:delete",
    "policies:write",
    "webhooks:write",
    "log:read",
    "metrics:read",
    "keys:admin",
]
"""One kind of thing that a principal may do."""

SCOPES: Final[dict[Scope, str]] = {
    "audits:read": "Read audits, reports, evidence, image batches and policies.",
    "audits:write": "Upload images and maps, look at models, ask for prices, submit and cancel audits.",
    "audits:sign": "Sign reports off.",
    "audits:delete": "Delete audits, image batches and maps.",
    "policies:write": "Store policies.",
    "webhooks:write": "Register and delete webhooks, and read what was sent to them.",
    "log:read": "Read the event log.",
    "metrics:read": "Read the metrics of the whole service.",
    "keys:admin": "Create, list, rotate and revoke API keys of the tenant.",
}
"""Scope -> what it allows, in the words of the documentation."""

ROLES: Final[dict[str, tuple[Scope, ...]]] = {
    "pipeline": ("audits:read", "audits:write"),
    "reader": ("audits:read", "log:read"),
    "approver": ("audits:read", "audits:sign", "log:read"),
    "monitoring": ("metrics:read",),
    "admin": (
        "audits:read",
        "audits:write",
        "audits:sign",
        "audits:delete",
        "policies:write",
        "webhooks:write",
        "log:read",
        "keys:admin",
    ),
}
"""Role -> its scopes: names on the command line for what people usually need. An admin of one tenant does not read the
metrics, which are those of all tenants."""

DEFAULT_TENANT: Final = "default"
"""The tenant of everything in a service that has no others."""

TENANT_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"
"""A tenant is part of a path in the blob store, so its name is a plain word."""


@final
@dataclass(frozen=True)
class Principal:
    """Who sent a request.

    Attributes:
        tenant: Whose objects it may see; those of others do not exist for it.
        name: The name that the event log writes; None for somebody who has not said who they are.
        scopes: What it may do.
    """

    tenant: str
    name: str | None
    scopes: frozenset[Scope]

    def __post_init__(self) -> None:
        """Refuse a tenant that could not be a part of a path.

        Raises:
            ValueError: The tenant has other characters than small letters, digits and hyphens, or too many.
        """
        if not re.fullmatch(TENANT_PATTERN, self.tenant):
            msg = f"{self.tenant[:80]!r} is not the name of a tenant; use small letters, digits and hyphens, at most 63"
            raise ValueError(msg)


ANONYMOUS: Final = Principal(DEFAULT_TENANT, None, frozenset(get_args(Scope)))
"""Everybody, in a service without authentication."""

OPERATOR_NAME: Final = "operator"
"""Name in the event log of somebody who uses the command line on the database itself."""


def operator(tenant: str) -> Principal:
    """Somebody who has the database of the service, and so may do everything.

    Args:
        tenant: For which tenant they act.

    Raises:
        ValueError: It is no name of a tenant.
    """
    return Principal(tenant, OPERATOR_NAME, frozenset(get_args(Scope)))
