"""When a delivery that failed is sent again."""

from __future__ import annotations

import pytest

from auditcore_service.webhooks.retries import ATTEMPTS, LONGEST_PAUSE_S, next_attempt, pause_of

NOW = 1_700_000_000.0
SPECIFICATION_S = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600]
"""The delays of the example in Standard Webhooks 1.0; the first attempt is immediate."""


def test_ten_attempts_follow_the_example_of_the_specification_with_jitter() -> None:
    assert ATTEMPTS == 10
    for attempt, expected in enumerate(SPECIFICATION_S, start=1):
        for random, share in ((0.0, 0.0), (0.5, 0.1), (1.0, 0.2)):
            at = next_attempt(attempt, now=NOW, paused_until=None, jitter=lambda random=random: random)
            assert at == pytest.approx(NOW + expected * (1 + share), abs=1e-3)
    assert next_attempt(10, now=NOW, paused_until=NOW + 5, jitter=lambda: 0.5) is None
    assert next_attempt(11, now=NOW, paused_until=None, jitter=lambda: 0.5) is None


def test_a_pause_that_is_longer_than_the_delay_counts() -> None:
    assert next_attempt(1, now=NOW, paused_until=NOW + 90, jitter=lambda: 0.5) == NOW + 90
    later = next_attempt(2, now=NOW, paused_until=NOW + 90, jitter=lambda: 0.5)
    assert later is not None
    assert later >= NOW + 300


@pytest.mark.parametrize(
    ("status", "header", "pause"),
    [
        (429, "120", 120),
        (503, " 7 ", 7),
        (429, "Tue, 14 Nov 2023 22:15:20 GMT", 120),
        (503, "Tue, 14 Nov 2023 22:00:00 GMT", 0),  # a time in the past
        (429, "99999999999999999999", LONGEST_PAUSE_S),
        (429, "Fri, 14 Nov 2098 22:15:20 GMT", LONGEST_PAUSE_S),
        (500, "120", None),
        (200, "120", None),
        (429, None, None),
        (429, "-5", None),
        (429, "soon", None),
        (429, "1.5", None),
        (429, "²", None),
        (429, "", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_of_a_throttled_answer(
    status: int, header: str | None, pause: float | None
) -> None:
    until = pause_of(status, header, now=NOW)
    assert until == (None if pause is None else NOW + pause)
