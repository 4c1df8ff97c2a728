"""Times as the service writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """A time in UTC to the millisecond, such as `2026-11-27T10:00:00.000Z`.

    Args:
        seconds: Seconds since 1970.
    """
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
