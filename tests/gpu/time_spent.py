"""Where the time of an audit goes: how long the card works, on what, and when it waits for the host."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

MOST_KERNELS, MOST_GAPS = 12, 5
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
    """

    seconds: float
    busy_s: float
    before_s: float
    kernels: tuple[Share, ...]
    gaps: tuple[Gap, ...]

    def record(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "seconds": self.seconds,
            "busy_s": self.busy_s,
            "before_s": self.before_s,
            "kernels": [share._asdict() for share in self.kernels],
            "gaps": [gap._asdict() for gap in self.gaps],
        }

    def lines(self) -> list[str]:
        """For a reader."""
        told = [
            f"profiled: {self.seconds:.3f} s, of which the card works {self.busy_s:.3f} s; first kernel after "
            f"{self.before_s:.3f} s; gaps "
            + ", ".join(f"{1000 * gap.seconds:.1f} ms after {gap.after_s:.3f} s" for gap in self.gaps)
        ]
        told += [f"  {1000 * one.seconds:9.2f} ms {one.calls:6d} x {one.name}" for one in self.kernels]
        return told


def time_spent(work: Callable[[], object]) -> TimeSpent:
    """Run something on the current CUDA device under a profiler."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU], acc_events=True) as profiler:
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    intervals: list[Interval] = []
    by_name: dict[str, list[float]] = defaultdict(list)
    host: list[float] = []
    for event in profiler.events() or ():
        span = event.time_range
        if event.device_type == DeviceType.CUDA:
            intervals.append((span.start, span.end))
            by_name[event.name[:NAME_LENGTH]].append(span.end - span.start)
        else:
            host.append(span.start)
    union = joined(intervals)
    first = union[0][0] if union else 0.0
    shares = (Share(name, sum(spans) / 1e6, len(spans)) for name, spans in by_name.items())
    return TimeSpent(
        seconds=seconds,
        busy_s=sum(end - begin for begin, end in union) / 1e6,
        before_s=max(0.0, first - min(host, default=first)) / 1e6,
        kernels=tuple(sorted(shares, key=lambda share: -share.seconds)[:MOST_KERNELS]),
        gaps=tuple(gaps_of(union)[:MOST_GAPS]),
    )


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
