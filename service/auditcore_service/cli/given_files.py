"""Files that a command is given."""

from __future__ import annotations

from pathlib import Path

from auditcore.contracts.report import AuditReport
from auditcore.report.reading import read_report
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


def read_report_file(path: Path) -> AuditReport:
    """The report in a file, of this or an earlier schema version.

    Raises:
        CommandError: There is no such file, or it holds no report.
    """
    try:
        return read_report(read_file(path))
    except ValueError as error:
        message = f"{path} holds no report that can be read ({error}); give the JSON of a report"
        raise CommandError(message) from error
