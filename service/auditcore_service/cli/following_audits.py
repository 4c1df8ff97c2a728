"""The commands that look at audits of a service: `list`, `status`, `watch`, `report` and `cancel`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditcore_service.cli.audit_labels import tags_of
from auditcore_service.cli.credentials import token_source
from auditcore_service.cli.destinations import check_destinations, write_results
from auditcore_service.cli.finishing import finish
from auditcore_service.cli.options import (
    AuditIdArgument,
    HtmlOption,
    JunitOption,
    MarkdownOption,
    OutOption,
    TagOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from auditcore_service.cli.outcome import EXIT_ERROR, EXIT_STATUS, CommandError, err, out, show_error
from auditcore_service.cli.problems import problems

if TYPE_CHECKING:
    from auditcore.client import Client
    from auditcore.client.calls import ReportForm

app = typer.Typer()

URL = "http://127.0.0.1:8000"

_WORST_LAST = (EXIT_STATUS["pass"], EXIT_STATUS["inconclusive"], EXIT_STATUS["fail"], EXIT_ERROR)
"""Exit statuses of several audits, from the one that stops a pipeline last to the one that stops it first."""


class State(StrEnum):
    """Where an audit stands."""

    QUEUED = "queued"
    RUNNING = "running"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class GivenVerdict(StrEnum):
    """Verdict of a report."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_EVALUATED = "not_evaluated"


class Form(StrEnum):
    """Form of a report."""

    JSON = "json"
    HTML = "html"
    JUNIT = "junit"
    MD = "md"
    CSV = "csv"


PerImageOption = Annotated[bool, typer.Option("--per-image", help="With csv: a row per result and image.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command("list", rich_help_panel="Audit")
def list_audits(
    url: UrlOption = URL,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    state: Annotated[State | None, typer.Option(help="Only audits in this state.")] = None,
    verdict: Annotated[GivenVerdict | None, typer.Option(help="Only audits whose report has this verdict.")] = None,
    tag: TagOption = None,
    name: Annotated[str | None, typer.Option(help="Only audits of this name.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Only audits of this model, by its digest in reports."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most audits.")] = 20,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """List the audits of a service, newest first. Every filter that is given must hold.

    For example:

        auditcore list --state running

        auditcore list --verdict fail --tag version:3.1 --limit 5 --json
    """
    with problems("list"):
        from auditcore_service.cli.audit_tables import show_audits  # noqa: PLC0415 - `--help` needs no pydantic
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - needs httpx

        with connected(url, token=token_source(token, token_file)) as client:
            found = tuple(
                client.list(
                    state=None if state is None else state.value,
                    verdict=None if verdict is None else verdict.value,
                    name=name,
                    tags=tags_of(tag or ()),
                    model=model,
                    limit=limit,
                )
            )
        show_audits(found, out, as_json=as_json)


@app.command(rich_help_panel="Audit")
def status(
    audit_id: AuditIdArgument,
    url: UrlOption = URL,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Print where an audit stands: state, progress, verdict, and what it waits for.

    Exits with 0 for any audit that exists, whatever its verdict; `watch` exits by the verdict.

    For example:

        auditcore status 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11
    """
    with problems("status"):
        from auditcore_service.cli.audit_tables import show_status  # noqa: PLC0415 - `--help` needs no pydantic
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - needs httpx

        with connected(url, token=token_source(token, token_file)) as client:
            show_status(client.status(audit_id), client.url, out, as_json=as_json)


@app.command(rich_help_panel="Audit")
def watch(
    audit_ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of audits, as `submit` prints them.")],
    url: UrlOption = URL,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    out_file: OutOption = None,
    html_file: HtmlOption = None,
    junit_file: JunitOption = None,
    markdown_file: MarkdownOption = None,
) -> None:
    """Follow audits to their verdict, as `submit --wait` does for its own.

    Exits with 0 for the verdicts pass, warn and not_evaluated, 1 for fail, 3 for inconclusive, 2 for an error. Of
    several audits, the worst decides: an error, then fail, then inconclusive. Ctrl-C stops watching, not the audits.

    For example:

        auditcore watch 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 --junit report.xml

        auditcore watch $(cat ids.txt)
    """
    with problems("watch", kept="the audits go on"):
        from auditcore_service.cli.followed_audit import follow_audit, stop_waiting  # noqa: PLC0415 - needs httpx
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - needs httpx

        wanted = {"--out": out_file, "--html": html_file, "--junit": junit_file, "--markdown": markdown_file}
        given = [option for option, path in wanted.items() if path is not None]
        if len(audit_ids) > 1 and given:
            message = f"{given[0]} is for one audit; watch the audits one by one, or fetch each with `auditcore report`"
            raise CommandError(message)
        check_destinations(wanted)
        forms: dict[ReportForm, Path | None] = {
            "json": out_file,
            "html": html_file,
            "junit": junit_file,
            "markdown": markdown_file,
        }
        credentials = token_source(token, token_file)
        with connected(url, token=credentials) as client:
            if len(audit_ids) > 1:
                raise typer.Exit(_watch_several(client, audit_ids))
            try:
                done = follow_audit(client, audit_ids[0], forms, err)
            except KeyboardInterrupt:
                stop_waiting(client, audit_ids[0], err, credentials)
        finish(done.report, done.files)


@app.command(rich_help_panel="Audit")
def report(
    audit_id: AuditIdArgument,
    url: UrlOption = URL,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format", help="JSON as evidence is about it, a page, JUnit XML, a summary in Markdown, or a table."
        ),
    ] = Form.JSON,
    per_image: PerImageOption = False,  # noqa: FBT002 - a flag of the command line
    out_file: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it; printed if not given.")
    ] = None,
) -> None:
    """Fetch the report of an audit in one of its forms.

    Of an audit that failed or was cancelled, the forms html, junit and md say why there is no report.

    For example:

        auditcore report 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 --out report.json

        auditcore report 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 --format csv --per-image > values.csv
    """
    with problems("report"):
        if per_image and form is not Form.CSV:
            message = f"--per-image is for tables; leave it out, or say --format csv in place of {form.value}"
            raise CommandError(message)
        check_destinations({"--out": out_file})
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - needs httpx

        with connected(url, token=token_source(token, token_file)) as client:
            content = _report_in(client, audit_id, form, per_image=per_image)
        if out_file is None:
            sys.stdout.buffer.write(content)
            return
        ((wanted, place, reason),) = write_results({out_file: content}, name=f"auditcore-{audit_id}")
        if reason is not None:
            message = f"{wanted} could not be written ({reason}); the report is in {place}"
            raise CommandError(message)
        err.print(f"report written to {place}", highlight=False, markup=False)


@app.command(rich_help_panel="Audit")
def cancel(
    audit_id: AuditIdArgument,
    url: UrlOption = URL,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Ask an audit to stop. What is computed now ends first; an audit that has ended stays as it is.

    For example:

        auditcore cancel 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11
    """
    with problems("cancel"):
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - needs httpx

        with connected(url, token=token_source(token, token_file)) as client:
            found = client.cancel(audit_id)
        out.print(f"{found.id} {found.state}", highlight=False, markup=False)


def _report_in(client: Client, audit_id: str, form: Form, *, per_image: bool) -> bytes:
    """The report of an audit in one of the forms of the command line."""
    if form is Form.CSV:
        from auditcore_service.cli.report_csv import report_csv  # noqa: PLC0415 - `--help` needs no pydantic

        return report_csv(client.report(audit_id), per_image=per_image)
    named: dict[Form, ReportForm] = {Form.HTML: "html", Form.JUNIT: "junit", Form.MD: "markdown"}
    return client.report_as(audit_id, named.get(form, "json"))


def _watch_several(client: Client, audit_ids: list[str]) -> int:
    """Follow audits one after the other, with a line for each; returns the exit status of the worst."""
    from auditcore_service.cli.followed_audit import follow_audit  # noqa: PLC0415 - needs httpx
    from auditcore_service.cli.service_client import telling_what_to_do  # noqa: PLC0415 - needs httpx

    worst = 0
    for audit_id in audit_ids:
        try:
            with telling_what_to_do():
                verdict = follow_audit(client, audit_id, {}, err).report.verdict
        except CommandError as error:
            show_error(error)
            found = EXIT_ERROR
        else:
            out.print(f"{audit_id} {verdict}", highlight=False, markup=False)
            found = EXIT_STATUS[verdict]
        worst = max(worst, found, key=_WORST_LAST.index)
    return worst
