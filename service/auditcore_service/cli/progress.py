"""Progress as a person sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from auditcore_service.cli.outcome import CommandError

LINES = 10
"""Lines that a log of a whole audit gets, where no bar can be drawn."""

ShowProgress = Callable[[float, str], None]
"""Shows the share done, in [0, 1], and what is going on."""


@contextmanager
def progress_bar(console: Console) -> Iterator[ShowProgress]:
    """A bar with the time elapsed, while the context lasts; on anything but a terminal a line now and then."""
    if not console.is_terminal:
        yield _line_by_line(console)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share, description: progress.update(task, completed=share, description=description)


def _line_by_line(console: Console) -> ShowProgress:
    shown: tuple[int, str] | None = None

    def show(share: float, description: str) -> None:
        nonlocal shown
        now = (int(share * LINES), description)
        if now != shown:
            console.print(f"  {description} {share:.0%}", highlight=False, markup=False)
            shown = now

    return show


def follow_to_report(statuses: Iterator[Mapping[str, Any]], console: Console) -> None:
    """Show an audit's progress until it has succeeded.

    Raises:
        CommandError: It failed or was cancelled; there is no report.
    """
    status: Mapping[str, Any] = {}
    with progress_bar(console) as show:
        for status in statuses:
            show(status["fraction"], status["state"])
    if status["state"] == "cancelled":
        message = f"audit {status['id']} was cancelled"
        raise CommandError(message, code="cancelled")
    if status["state"] == "failed":
        error = status["error"]
        errors = [(error["field"], error["message"])] if error.get("field") else []
        message = f"audit {status['id']} failed" + ("" if errors else f": {error['message']}")
        raise CommandError(message, errors=errors, code=error["code"])
