"""What is said of the time of the card, from intervals in which it worked."""

from __future__ import annotations

import sys
import time

import pytest

from gpu import time_spent
from gpu.time_spent import Gap, gaps_of, is_inside, joined, place_of


def test_intervals_that_touch_are_one() -> None:
    assert joined([(5, 7), (0, 1), (2, 3), (2.5, 4), (4, 5), (0.2, 0.4)]) == [(0, 1), (2, 7)]
    assert joined([]) == []


def test_gaps_lie_between_intervals_the_longest_first() -> None:
    union = [(10.0, 11.0), (13.0, 17.0), (22.0, 23.0)]
    assert gaps_of(union) == [
        Gap(pytest.approx(7e-6), pytest.approx(5e-6)),
        Gap(pytest.approx(1e-6), pytest.approx(2e-6)),
    ]
    assert gaps_of([]) == gaps_of([(1.0, 2.0)]) == []


@pytest.mark.parametrize(
    ("at", "inside"), [(-1, False), (0, True), (0.5, True), (1, True), (1.5, False), (6.9, True), (7.1, False)]
)
def test_a_time_is_inside_an_interval_or_between(at: float, inside: bool) -> None:  # noqa: FBT001 - pytest gives it
    assert is_inside([(0, 1), (2, 7)], at) is inside
    assert not is_inside([], at)


def test_a_place_names_a_line_of_ours_and_what_it_has_called() -> None:
    from auditcore.images.batch import group_sizes  # noqa: PLC0415 - only its line is wanted

    frames = group_sizes(10, 4, growing=False)
    next(frames)
    assert place_of(frames.gi_frame).startswith("group_sizes < batch.py:")  # type: ignore[attr-defined]
    assert place_of(sys._getframe()) == "test_a_place_names_a_line_of_ours_and_what_it_has_called"


def test_the_thread_that_works_is_sampled() -> None:
    before = sys.getswitchinterval()
    started = time.perf_counter()
    with time_spent._sampled() as samples:
        # however busy the machine is
        while len(samples) < 10 and time.perf_counter() - started < 60:
            sum(range(100))
    assert len(samples) >= 10
    assert all(started <= at <= time.perf_counter() for at, _ in samples)
    assert sys.getswitchinterval() == before
