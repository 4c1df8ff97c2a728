"""Files that a command is given."""

from __future__ import annotations

from pathlib import Path

from auditcore_service.cli.outcome import CommandError


def read_file(path: Path, *, remedy: str = "check the path and its permissions") -> bytes:
    """The bytes of a file.

    Args:
        path: The file.
        remedy: What to do if it cannot be read.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); {remedy}"
        raise CommandError(message) from error
