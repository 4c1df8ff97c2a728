"""One audit of a service, followed to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer
from rich.console import Console

from auditcore.client import AuditCancelled, AuditFailed, Client
from auditcore.client.calls import ReportForm
from auditcore.client.curl import CREDENTIALS
from auditcore.contracts.report import AuditReport
from auditcore.report.reading import read_report
from auditcore_service.cli.destinations import write_results
from auditcore_service.cli.outcome import EXIT_INTERRUPTED, CommandError
from auditcore_service.cli.progress import follow

OF_FAILURES: frozenset[ReportForm] = frozenset({"junit", "markdown"})
"""Forms that are written for an audit without a report too: a build server shows why there is none."""


class FollowedAudit(NamedTuple):
    """An audit that has ended with a report.

    Attributes:
        report: The report.
        files: Where each of its forms is wanted.
    """

    report: AuditReport
    files: dict[Path, bytes]


def addresses(client: Client, audit_id: str) -> tuple[str, str]:
    """Where an audit is in the interface, and where its page is."""
    return f"{client.url}/v1/audits/{audit_id}", f"{client.url}/ui/audits/{audit_id}"


def follow_audit(
    client: Client, audit_id: str, wanted: Mapping[ReportForm, Path | None], console: Console
) -> FollowedAudit:
    """Follow an audit to its end, and fetch its report in the forms that are wanted.

    Args:
        client: Of the service.
        audit_id: Id of the audit.
        wanted: Form -> where to write it; None to leave it out.
        console: Where progress is shown.

    Raises:
        AuditFailed: It failed; the forms of `OF_FAILURES` are written.
        AuditCancelled: It was cancelled; the same.
        CommandError: Its report cannot be read.
    """
    places = {form: path for form, path in wanted.items() if path is not None}
    try:
        follow(lambda told: client.wait(audit_id, on_progress=told), console)
    except (AuditFailed, AuditCancelled):
        failures = {path: client.report_as(audit_id, form) for form, path in places.items() if form in OF_FAILURES}
        for _, place, _ in write_results(failures, name=f"auditcore-{audit_id}"):
            console.print(f"the reason is written to {place}", highlight=False, markup=False)
        raise
    content = client.report_as(audit_id, "json")
    others = {path: client.report_as(audit_id, form) for form, path in places.items() if form != "json"}
    files = {path: content for form, path in places.items() if form == "json"} | others
    return FollowedAudit(parsed_report(content), files)


def parsed_report(content: bytes) -> AuditReport:
    """The report that a service has answered.

    Raises:
        CommandError: It is of another version.
    """
    try:
        return read_report(content)
    except ValueError as error:
        message = f"the service's report cannot be read ({error}); use the version of auditcore that the service has"
        raise CommandError(message) from error


def stop_waiting(client: Client, audit_id: str, console: Console, token: Callable[[], str] | None) -> NoReturn:
    """Say after Ctrl-C how to get at an audit that goes on, and exit."""
    shown = f"{CREDENTIALS} " if token else ""
    address, _ = addresses(client, audit_id)
    console.print(
        f"interrupted; the audit goes on: its report will be at {address}/report; "
        f"stop it with: curl {shown}-X POST {address}/cancel",
        highlight=False,
        markup=False,
    )
    raise typer.Exit(EXIT_INTERRUPTED) from None
