"""The command `auditcore`. Heavy imports stay inside the commands: `--help` and `submit` need no torch."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command."""
    from auditcore_service.cli.commands import app  # noqa: PLC0415 - typer is an optional dependency

    app()
