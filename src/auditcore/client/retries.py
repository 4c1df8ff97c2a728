"""When a request is sent again, and after how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, final

from tenacity import RetryCallState, stop_after_attempt, stop_before_delay, wait_random_exponential
from tenacity.stop import stop_base

from auditcore.client.errors import NotAuditcore, Refused, Unreachable

PASSING_STATUSES: Final = frozenset({502, 503, 504})
"""Answers that say nothing of the request: the service, or a proxy before it, cannot answer now."""

TOO_MANY: Final = 429

QUOTA: Final = "quota_exceeded"
"""Code of a quota that is used up: it may be free again only tomorrow, so that waiting helps nobody."""


@final
@dataclass(frozen=True)
class Retries:
    """How often a request is sent again while nobody answers, or while the answer asks to come back later.

    Pauses grow exponentially and are chosen at random between 0 and their bound ("full jitter"), so that many clients
    of a service that was away do not all come back at the same time. An answer that names a pause (`Retry-After`) gets
    exactly that.

    Attributes:
        attempts: Most times that a request is sent, at least 1.
        deadline_s: Seconds since the first try after which no further try begins. A pause that would end later is not
            begun, and the refusal is raised at once.
        first_pause_s: Bound of the first pause, in seconds; each later bound is twice as long.
        longest_pause_s: Largest bound of a pause, in seconds.
    """

    attempts: int = 6
    deadline_s: float = 120.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0

    def pause_s(self, state: RetryCallState) -> float:
        """Seconds until the next try, after what came of the last one."""
        error = None if state.outcome is None else state.outcome.exception()
        wanted = error.retry_after_s if isinstance(error, Refused | NotAuditcore) else None
        if wanted is not None:
            return wanted
        return wait_random_exponential(multiplier=self.first_pause_s, max=self.longest_pause_s)(state)

    @property
    def stop(self) -> stop_base:
        """When to give up."""
        return stop_after_attempt(self.attempts) | stop_before_delay(self.deadline_s)


def is_passing(error: BaseException, *, repeatable: bool) -> bool:
    """Whether the same request may succeed later, and may be sent again.

    Args:
        error: What came of it.
        repeatable: Whether doing it twice is the same as doing it once. A request that came after too many others did
            nothing, so that it may be repeated in any case.
    """
    if isinstance(error, Unreachable):
        return repeatable
    if not isinstance(error, Refused | NotAuditcore):
        return False
    if error.status == TOO_MANY:
        return error.code != QUOTA
    return repeatable and error.status in PASSING_STATUSES


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a header `Retry-After` asks to wait.

    Args:
        value: The header: a whole number of seconds, or a date of HTTP; None without one.
        now: Time zone aware.

    Returns:
        At least 0; None without a header that can be read.

    Source: RFC 9110, section 10.2.3.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    # a date of HTTP is in GMT, and Python reads `-0000` as one without a zone
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
