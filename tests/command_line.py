"""The command line in this process, on a wide terminal without colors."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from auditcore_service.cli.commands import app


def run(*arguments: str | Path) -> Result:
    """What a command printed, and its exit code."""
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
