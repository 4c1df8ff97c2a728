"""The command line in this process, on a wide terminal without colors."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from auditcore_service.cli.commands import app
from auditcore_service.cli.outcome import err, out

WIDTH = 200


def run(*arguments: str | Path) -> Result:
    """What a command printed, and its exit code."""
    # a console that was made where COLUMNS and LINES are set, as in processes of pytest-xdist, reads them no more
    widths = [(console, console.width) for console in (out, err)]
    try:
        for console, _ in widths:
            console.width = WIDTH
        return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": str(WIDTH), "NO_COLOR": "1"})
    finally:
        for console, width in widths:
            console.width = width
