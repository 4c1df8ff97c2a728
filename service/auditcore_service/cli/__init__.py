"""The command `auditcore`. Heavy imports stay inside the commands: `--help` and `submit` need no torch."""

from __future__ import annotations

import sys

from auditcore_service.cli.extras import CLIENT, missing_extra


def main() -> None:
    """Entry point of the command."""
    # an installation without extras has nothing that could draw this message
    missing = missing_extra(CLIENT)
    if missing is not None:
        sys.stderr.write(f"error: {missing}\n")
        sys.exit(2)
    from auditcore_service.cli.commands import app  # noqa: PLC0415 - typer is an optional dependency

    app()
