"""What went wrong in a command, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from auditcore_service.cli.extras import EXTRAS, Extra, missing_extra
from auditcore_service.cli.outcome import EXIT_INTERRUPTED, CommandError, err, stop


@contextmanager
def problems(command: str, *, extra: Extra | None = None, kept: str = "") -> Iterator[None]:
    """Print what went wrong as a person reads it, and exit.

    Args:
        command: Name of the command; its extra must be installed.
        extra: Another extra than that of the command, where less is enough.
        kept: What is left after Ctrl-C.
    """
    missing = missing_extra(extra or EXTRAS[command])
    if missing is not None:
        stop(CommandError(missing))
    try:
        yield
    except CommandError as error:
        stop(error)
    except KeyboardInterrupt:
        err.print(f"interrupted{kept and '; '}{kept}", highlight=False, markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
