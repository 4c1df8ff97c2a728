"""The end of a command that has a report: files, summary, exit status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from auditcore_service.cli.destinations import write_results
from auditcore_service.cli.outcome import EXIT_ERROR, EXIT_STATUS, err, out

if TYPE_CHECKING:
    from rich.console import Console

    from auditcore.contracts.report import AuditReport


def finish(
    report: AuditReport, files: Mapping[Path, bytes], *, show: Callable[[AuditReport, Console], None] | None = None
) -> NoReturn:
    """Write the report's files, show its summary and exit by its verdict.

    Args:
        report: The report.
        files: Where each content is wanted.
        show: Prints the summary; the whole one if None.
    """
    from auditcore_service.cli.report_view import show_report  # noqa: PLC0415 - needs pydantic

    written = write_results(files, name=f"auditcore-{report.audit_id}")
    (show or show_report)(report, out)
    for wanted, place, reason in written:
        if reason is None:
            err.print(f"report written to {place}", highlight=False, markup=False)
        else:
            message = f"{wanted} could not be written ({reason}); the report is in {place}"
            err.print(f"error: {message}", style="red", highlight=False, markup=False)
    complete = all(reason is None for _, _, reason in written)
    raise typer.Exit(EXIT_STATUS[report.verdict] if complete else EXIT_ERROR)
