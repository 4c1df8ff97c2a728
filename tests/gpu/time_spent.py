"""Where the time of an audit goes: how long the card works, on what, and when it waits for the host."""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

MOST_KERNELS, MOST_GAPS, MOST_PLACES = 12, 5, 14

SAMPLES_EVERY_S = 0.0005
"""How often the host is asked what it does."""

CLOCK = "clock of time_spent"
"""Name of an event whose time is known on the clock of the host too."""
NAME_LENGTH = 60

Interval = tuple[float, float]
"""Begin and end, in microseconds."""


class Share(NamedTuple):
    """What one kernel takes.

    Attributes:
        name: Beginning of its name.
        seconds: On the card.
        calls: How often it ran.
    """

    name: str
    seconds: float
    calls: int


class Gap(NamedTuple):
    """A time in which the card had nothing to do.

    Attributes:
        after_s: Since the first kernel.
        seconds: How long.
    """

    after_s: float
    seconds: float


@dataclass(frozen=True)
class TimeSpent:
    """What a profiler saw of one call.

    Attributes:
        seconds: Of the call, with what the profiler adds.
        busy_s: During which the card ran at least one kernel or copy.
        before_s: From the beginning of the call to the first kernel.
        kernels: Those that took longest.
        gaps: The longest ones.
        waiting: Lines of auditcore in which the host was while the card had nothing to do, with the share of that time.
    """

    seconds: float
    busy_s: float
    before_s: float
    kernels: tuple[Share, ...]
    gaps: tuple[Gap, ...]
    waiting: tuple[tuple[str, float], ...]

    def record(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "seconds": self.seconds,
            "busy_s": self.busy_s,
            "before_s": self.before_s,
            "kernels": [share._asdict() for share in self.kernels],
            "gaps": [gap._asdict() for gap in self.gaps],
            "waiting": dict(self.waiting),
        }

    def lines(self) -> list[str]:
        """For a reader."""
        told = [
            f"profiled: {self.seconds:.3f} s, of which the card works {self.busy_s:.3f} s; first kernel after "
            f"{self.before_s:.3f} s; gaps "
            + ", ".join(f"{1000 * gap.seconds:.1f} ms after {gap.after_s:.3f} s" for gap in self.gaps)
        ]
        told += [f"  card idle {share:5.1%} in {place}" for place, share in self.waiting]
        told += [f"  {1000 * one.seconds:9.2f} ms {one.calls:6d} x {one.name}" for one in self.kernels]
        return told


def time_spent(work: Callable[[], object]) -> TimeSpent:
    """Run something on the current CUDA device under a profiler."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU], acc_events=True) as profiler:
        began = time.perf_counter()
        with record_function(CLOCK):
            pass
        with _sampled() as samples:
            work()
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    intervals: list[Interval] = []
    by_name: dict[str, list[float]] = defaultdict(list)
    clock = 0.0
    for event in profiler.events() or ():
        span = event.time_range
        if event.device_type == DeviceType.CUDA and event.name != CLOCK:
            intervals.append((span.start, span.end))
            by_name[event.name[:NAME_LENGTH]].append(span.end - span.start)
        elif event.name == CLOCK:
            clock = span.start
    union = joined(intervals)
    shares = (Share(name, sum(spans) / 1e6, len(spans)) for name, spans in by_name.items())
    places = [place for at, place in samples if not is_inside(union, clock + 1e6 * (at - began))]
    return TimeSpent(
        seconds=seconds,
        busy_s=sum(end - begin for begin, end in union) / 1e6,
        before_s=max(0.0, union[0][0] - clock) / 1e6 if union else seconds,
        kernels=tuple(sorted(shares, key=lambda share: -share.seconds)[:MOST_KERNELS]),
        gaps=tuple(gaps_of(union)[:MOST_GAPS]),
        waiting=tuple((place, count / len(samples)) for place, count in Counter(places).most_common(MOST_PLACES)),
    )


@contextmanager
def _sampled() -> Iterator[list[tuple[float, str]]]:
    """What the calling thread does inside the block: seconds on the performance counter, and a line of code."""
    samples: list[tuple[float, str]] = []
    observed, ended = threading.get_ident(), threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLES_EVERY_S):
            frame = sys._current_frames().get(observed)
            if frame is not None:
                samples.append((time.perf_counter(), place_of(frame)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(SAMPLES_EVERY_S)
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
        sys.setswitchinterval(before)


def place_of(frame: FrameType) -> str:
    """The innermost line of auditcore of a stack, with its caller there and the function that it has called."""
    lines: list[str] = []
    innermost = frame.f_code.co_name
    at: FrameType | None = frame
    while at is not None and len(lines) < 2:
        path = Path(at.f_code.co_filename)
        if "auditcore" in path.parts:
            lines.append(f"{path.name}:{at.f_lineno} {at.f_code.co_name}")
        at = at.f_back
    return " < ".join([innermost, *lines])


def is_inside(union: Sequence[Interval], at: float) -> bool:
    """Whether a time lies in one of the intervals of `joined`."""
    before = bisect_right(union, (at, float("inf"))) - 1
    return before >= 0 and at <= union[before][1]


def joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Intervals that overlap or touch as one, ascending."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def gaps_of(union: Sequence[Interval]) -> list[Gap]:
    """What lies between the intervals of `joined`, the longest first."""
    first = union[0][0] if union else 0.0
    gaps = [Gap((end - first) / 1e6, (begin - end) / 1e6) for (_, end), (begin, _) in pairwise(union)]
    return sorted(gaps, key=lambda gap: -gap.seconds)
