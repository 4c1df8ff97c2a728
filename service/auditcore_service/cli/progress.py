"""Progress as a person sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from auditcore_service.cli.interruption import remembering_ctrl_c

if TYPE_CHECKING:
    from auditcore.client.answers import JobStatus

T = TypeVar("T")

LINES = 10
"""Lines that a log of a whole audit gets, where no bar can be drawn."""

FIRST_SHARE = 0.02
"""Share of the work after which the time left is shown; before that, one slow pass would multiply by hundreds."""

ShowProgress = Callable[[float | None, str], None]
"""Shows the share done, in [0, 1] or None where it is not known, and the stage: what is going on."""


@contextmanager
def progress_bar(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[ShowProgress]:
    """A bar with stage, time elapsed and time left, while the context lasts; without a terminal, a line now and then.

    What it yields raises KeyboardInterrupt if Ctrl-C was pressed and the work went on nevertheless.

    Args:
        console: Where to show it.
        clock: Seconds, monotonic.
    """
    with remembering_ctrl_c() as check, _display(console, _TimeLeft(clock)) as display:

        def show(share: float | None, stage: str) -> None:
            check()
            display(share, stage)

        yield show


@contextmanager
def _display(console: Console, time_left: _TimeLeft) -> Iterator[ShowProgress]:
    if not console.is_terminal:
        yield _line_by_line(console, time_left)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    ) as progress:
        task = progress.add_task("", total=None, left="")

        def show(share: float | None, stage: str) -> None:
            total = None if share is None else 1.0
            left = time_left.after(share, stage)
            progress.update(task, total=total, completed=share or 0.0, description=stage, left=left)

        yield show


class _TimeLeft:
    """The time that a stage still takes at the speed that it has had so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._began = (0.0, 0.0)

    def after(self, share: float | None, stage: str) -> str:
        """In words; empty where nothing can be said yet, or where less than a second is left."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._began = stage, (now, share or 0.0)
        since, from_share = self._began
        if share is None or share - from_share < FIRST_SHARE or share >= 1:
            return ""
        left_s = (now - since) * (1 - share) / (share - from_share)
        return f"about {_duration(left_s)} left" if left_s >= 1 else ""


def _duration(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004 - below this, seconds read better than minutes
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - and minutes here


def _line_by_line(console: Console, time_left: _TimeLeft) -> ShowProgress:
    shown: tuple[int | None, str] | None = None

    def show(share: float | None, stage: str) -> None:
        nonlocal shown
        left = time_left.after(share, stage)
        now = (None if share is None else int(share * LINES), stage)
        if now != shown:
            done = "" if share is None else f" {share:.0%}"
            console.print(f"  {stage}{done}{left and ', '}{left}", highlight=False, markup=False, soft_wrap=True)
            shown = now

    return show


def follow(wait: Callable[[Callable[[JobStatus], None]], T], console: Console) -> T:
    """Show the progress of a job while something waits for its end.

    Args:
        wait: Waits, calls its argument with each status, and returns the last one or raises.
        console: Where to show it.

    Returns:
        What `wait` returns.
    """
    with progress_bar(console) as show:
        return wait(lambda status: show(status.fraction, status.state))
