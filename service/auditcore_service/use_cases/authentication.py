"""From credentials to a principal."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from auditcore_service.principals import ANONYMOUS, Principal


@final
class Authentication:
    """The use cases."""

    def principal(self, authorization: str | None, needed: Collection[str]) -> Principal:  # noqa: ARG002 - for keys
        """Who sent a request.

        Args:
            authorization: The header `Authorization`; None without one.
            needed: Scopes that the route needs.
        """
        return ANONYMOUS
