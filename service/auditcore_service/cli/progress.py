"""Progress as a person sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from auditcore_service.cli.outcome import CommandError


class ProgressBar:
    """Moves one bar."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=1.0)

    def __call__(self, share: float, description: str | None = None) -> None:
        """Show the share done, in [0, 1], and what is going on if that has changed."""
        self._progress.update(self._task, completed=share, description=description)


@contextmanager
def progress_bar(description: str, console: Console) -> Iterator[ProgressBar]:
    """A bar with the time elapsed, while the context lasts."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield ProgressBar(progress, description)


def follow_to_report(statuses: Iterator[Mapping[str, Any]], console: Console) -> None:
    """Show an audit's progress until it has succeeded.

    Raises:
        CommandError: It failed or was cancelled; there is no report.
    """
    status: Mapping[str, Any] = {}
    with progress_bar("queued", console) as bar:
        for status in statuses:
            bar(status["fraction"], status["state"])
    if status["state"] == "cancelled":
        message = f"audit {status['id']} was cancelled"
        raise CommandError(message, code="cancelled")
    if status["state"] == "failed":
        error = status["error"]
        errors = [(error["field"], error["message"])] if error.get("field") else []
        message = f"audit {status['id']} failed" + ("" if errors else f": {error['message']}")
        raise CommandError(message, errors=errors, code=error["code"])
