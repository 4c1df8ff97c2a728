"""One audit as the gate of a pipeline: submit, wait, write the files that build servers show, and decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from auditcore.client import AuditCancelled, AuditFailed, Client, ClientError
from auditcore.client.answers import AuditStatus
from auditcore.client.calls import ReportForm
from auditcore.contracts.report import Verdict
from auditcore.report.failure import AuditFailure, render_failure_junit, render_failure_markdown
from auditcore.report.markdown import render_markdown
from auditcore.report.reading import read_report

EXIT_STATUS: Final[Mapping[Verdict, int]] = {"pass": 0, "warn": 0, "not_evaluated": 0, "fail": 1, "inconclusive": 3}
"""Verdict -> exit status of a pipeline's step. The commands have the same, since they load nothing of the library to
print their help."""

EXIT_ERROR: Final = 2
"""Exit status when there is no verdict: a failed or cancelled audit, an unreachable service, bad input."""

REPORT, PAGE, JUNIT, SUMMARY = "report.json", "report.html", "report.xml", "summary.md"
"""Files of a gate. The first one is missing where the audit has no report, the second where there was no audit."""


@final
@dataclass(frozen=True)
class GateOutcome:
    """What a pipeline needs to know.

    Attributes:
        audit_id: Id of the audit; None if none was accepted.
        url: Address of the audit; None without one.
        verdict: Verdict of its report; None without a report.
        exit_status: 0 for pass, warn and not_evaluated, 1 for fail, 3 for inconclusive, 2 without a verdict.
        summary: The summary as Markdown.
        problem: Why there is no verdict; None if there is one.
    """

    audit_id: str | None
    url: str | None
    verdict: Verdict | None
    exit_status: int
    summary: str
    problem: str | None = None


def run_gate(
    client: Client,
    request: Mapping[str, object],
    *,
    images: Sequence[Path] = (),
    folder: Path,
    tell: Callable[[str], None],
) -> GateOutcome:
    """Submit an audit, wait for its end, and write report, page, JUnit and summary into a folder.

    Args:
        client: Of the service.
        request: The request.
        images: Files and folders that take the place of the request's images; none keeps those of the request.
        folder: Where the files are written; made if it is missing.
        tell: Gets one line for each step, for the log of the pipeline.

    Returns:
        What became of it. An error of client or service is an outcome without a verdict, so that a comment can say it.

    Raises:
        OSError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (REPORT, PAGE, JUNIT, SUMMARY):
        # a runner may keep its folder, and the report of an earlier audit must not look like that of this one
        (folder / name).unlink(missing_ok=True)
    status: AuditStatus | None = None
    try:
        document = dict(request)
        if images:
            document["images"] = {"kind": "batch", "digest": client.upload(images).digest}
        status = client.submit(document)
        tell(f"audit {status.id} accepted: {_address(client, status)}")
        client.wait(status.id, on_progress=_narrated(tell))
        return _judged(client, status, folder)
    except ClientError as error:
        return _undecided(client, status, error, folder)


def _judged(client: Client, status: AuditStatus, folder: Path) -> GateOutcome:
    content = client.report_as(status.id, "json")
    (folder / REPORT).write_bytes(content)
    try:
        report = read_report(content)
    except ValueError as error:
        message = f"the report cannot be read ({error}); install the version of auditcore that the service has"
        raise ClientError(message) from error
    _fetch(client, status.id, {PAGE: "html", JUNIT: "junit"}, folder)
    url = _address(client, status)
    summary = render_markdown(report, _page(client, status))
    (folder / SUMMARY).write_text(summary, encoding="utf-8")
    return GateOutcome(status.id, url, report.verdict, EXIT_STATUS[report.verdict], summary)


def _undecided(client: Client, status: AuditStatus | None, error: ClientError, folder: Path) -> GateOutcome:
    audit_id, url = (None, None) if status is None else (status.id, _address(client, status))
    if status is not None and isinstance(error, AuditFailed | AuditCancelled):
        _fetch(client, status.id, {PAGE: "html", JUNIT: "junit", SUMMARY: "markdown"}, folder)
        summary = (folder / SUMMARY).read_text(encoding="utf-8")
    else:
        failure = AuditFailure(audit_id or "none was submitted", "failed", error.code or "error", str(error), None, 0.0)
        summary = render_failure_markdown(failure)
        (folder / SUMMARY).write_text(summary, encoding="utf-8")
        (folder / JUNIT).write_text(render_failure_junit(failure), encoding="utf-8")
    return GateOutcome(audit_id, url, None, EXIT_ERROR, summary, str(error))


def _fetch(client: Client, audit_id: str, forms: Mapping[str, ReportForm], folder: Path) -> None:
    for name, form in forms.items():
        (folder / name).write_bytes(client.report_as(audit_id, form))


def _address(client: Client, status: AuditStatus) -> str:
    return f"{client.url}/v1/audits/{status.id}"


def _page(client: Client, status: AuditStatus) -> str:
    """Address of the page of an audit; browsers get the report as a page."""
    return f"{client.url}{status.links['page']}"


def _narrated(tell: Callable[[str], None]) -> Callable[[AuditStatus], None]:
    """Tells a line whenever the state changes or another tenth is done; a log is no place for a moving bar."""
    shown: tuple[str, int] | None = None

    def show(status: AuditStatus) -> None:
        nonlocal shown
        now = (status.state, int(status.fraction * 10))
        if now != shown:
            shown = now
            tell(f"  {status.state} {status.fraction:.0%}")

    return show
