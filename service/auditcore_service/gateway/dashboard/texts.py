"""Times, spans, sizes and numbers as the dashboard writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from auditcore.report.headlines import interval_text, number_text

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_MONTH_DAYS: Final = 60


def exact(seconds: float) -> str:
    """A time in UTC to the second, such as `2026-11-28 07:00:00 UTC`.

    Args:
        seconds: Seconds since 1970.
    """
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """A length of time in at most two units, such as `3 min 20 s`; below a second `< 1 s`."""
    if seconds < 1:
        return "< 1 s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def ago(seconds: float, now: float) -> str:
    """How long ago a time was, or in how long it will be, such as `5 min ago`; a date after two months.

    Args:
        seconds: The time, seconds since 1970.
        now: The present, seconds since 1970.
    """
    away = abs(now - seconds)
    if away > _MONTH_DAYS * _DAY:
        return exact(seconds)[:10]
    if away < 5:  # noqa: PLR2004 - nobody needs it more precisely
        return "just now"
    coarse = span(away).rsplit(" ", 2)[0] if away >= _MINUTE and span(away).count(" ") > 1 else span(away)
    return f"{coarse} ago" if seconds < now else f"in {coarse}"


def size(count: float) -> str:
    """A number of bytes, such as `2.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - a thousand of one unit is one of the next
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(value: float | None) -> str:
    """A number as reports print it; a dash where there is none."""
    return "–" if value is None else number_text(value, abs(value))  # noqa: RUF001 - a dash


def interval(ci: tuple[float, float] | None) -> str:
    """An interval as reports print it; a dash where there is none."""
    return interval_text(ci) or "–"  # noqa: RUF001 - a dash


def pretty_json(document: Any) -> str:  # noqa: ANN401 - JSON is any type
    """JSON to read and to copy. Letters beyond ASCII are escaped, so that no sign hides what is copied."""
    return json.dumps(document, indent=2)


def _two(whole: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
