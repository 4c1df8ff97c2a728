"""How a command ends: what it prints and the status it exits with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from auditcore_service.use_cases.locations import parts_in, root_mistakes, sentence

EXIT_STATUS = {"pass": 0, "warn": 0, "not_evaluated": 0, "fail": 1, "inconclusive": 3}
"""Exit status of a finished audit, by verdict."""

EXIT_ERROR = 2
"""Exit status when there is no verdict: bad input, an unreachable service, a failed or cancelled audit."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell expects it."""

EXIT_TERMINATED = 143
"""Exit status after SIGTERM, as a shell expects it."""

out = Console()
"""Standard output: what a script reads."""

err = Console(stderr=True, soft_wrap=True)
"""Standard error: progress and problems, for a person. A sentence stays one line, to be searched and copied."""


class CommandError(Exception):
    """A command has to stop.

    Attributes:
        message: What is wrong.
        errors: For each mistake, its field or JSON pointer and how to fix it.
        code: Stable name of the kind of problem.
    """

    def __init__(self, message: str, *, errors: Sequence[tuple[str, str]] = (), code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errors = tuple(errors)
        self.code = code


def stop(error: CommandError) -> NoReturn:
    """Print what is wrong and how to fix it, and exit with `EXIT_ERROR`."""
    show_error(error)
    raise typer.Exit(EXIT_ERROR)


def show_error(error: CommandError) -> None:
    """Print what is wrong and how to fix it."""
    code = f"[dim] ({escape(error.code)})[/dim]" if error.code else ""
    err.print(f"[bold red]error:[/bold red] {escape(error.message)}{code}", highlight=False)
    for field, fix in error.errors:
        err.print(f"  [bold]{escape(field)}[/bold]: {escape(fix)}", highlight=False)


def mistakes(errors: Sequence[Mapping[str, Any]], document: object) -> list[tuple[str, str]]:
    """Fields and messages of pydantic's errors, without the names of union members in their paths.

    Args:
        errors: `ValidationError.errors()`.
        document: The parsed JSON that was validated.
    """
    return [
        (
            ".".join(str(part) for part in parts_in(error["loc"], document, missing=error["type"] == "missing"))
            or "request",
            sentence(error),
        )
        for error in root_mistakes(errors)
    ]
