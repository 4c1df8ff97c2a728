"""When a delivery that failed is sent again."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from http import HTTPStatus

RETRY_AFTER_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds between an attempt and the next: the example of Standard Webhooks, which spans three days."""

ATTEMPTS = len(RETRY_AFTER_S) + 1

JITTER = 0.2
"""Largest share by which a delay is prolonged, so that deliveries that failed together do not come back together."""

LONGEST_PAUSE_S = 86_400.0
"""Longest pause that a receiver may ask for."""

_THROTTLED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def next_attempt(attempt: int, *, now: float, paused_until: float | None, jitter: Callable[[], float]) -> float | None:
    """When to send again.

    Args:
        attempt: The attempt that failed, from 1.
        now: Seconds since 1970.
        paused_until: The receiver wants nothing before this time.
        jitter: A random number in [0, 1), which spreads the attempts.

    Returns:
        Seconds since 1970; None if no attempt is left.
    """
    if attempt >= ATTEMPTS:
        return None
    delay = RETRY_AFTER_S[attempt - 1] * (1 + JITTER * jitter())
    return max(now + delay, paused_until or 0.0)


def pause_of(status: int, retry_after: str | None, *, now: float) -> float | None:
    """Until when a receiver wants nothing: its header Retry-After, with the status 429 or 503.

    Args:
        status: Status of its answer.
        retry_after: Its header: seconds, or a date; what is neither is passed over.
        now: Seconds since 1970.

    Returns:
        Seconds since 1970, at most a day from now; None if the answer does not say.
    """
    if status not in _THROTTLED or retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        # a number of many digits is also a day
        until = now + float(text[:10])
    else:
        try:
            until = email.utils.parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError):
            return None
    return min(max(until, now), now + LONGEST_PAUSE_S)
