"""The command `mlflow log`: a report in MLflow, and an alias for a version that has earned it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditcore_service.cli.extras import EXTRAS, missing_extra
from auditcore_service.cli.outcome import CommandError, err, out, stop

EXIT_FORBIDDEN = 1
"""Exit status if the verdict lets the version have no alias."""

mlflow = typer.Typer(
    name="mlflow",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Write reports into MLflow, where the people who release models look.",
)


@mlflow.callback()
def _group() -> None:
    """A group with one command; typer would make one command of it."""


@mlflow.command("log")
def log(
    report: Annotated[str, typer.Argument(metavar="REPORT.json|AUDIT_ID", help="Report file, or id of an audit.")],
    model: Annotated[str, typer.Option(metavar="NAME/VERSION", help="Version in the registry.")],
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Address of MLflow.")],
    url: Annotated[str | None, typer.Option("--url", "-u", envvar="AUDIT_URL", help="Address of the service.")] = None,
    gate_alias: Annotated[
        str | None, typer.Option(help="Alias that the version gets if the verdict is pass or warn, such as champion.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="The same for a stage, at a server that still has them.")] = None,
) -> None:
    """Log a report to the run of a model version, tag the version, and give it an alias if the verdict allows.

    The run gets the headline means as metrics, tags, and report.json and report.html as artifacts. If the audit was of
    a model of this registry, the files of the version must be those that were audited. Exits with 0 if it was written,
    1 if --gate-alias or --stage was asked for and the verdict is not pass or warn (nothing is written then), 2 for an
    error.

    For example:

        auditcore mlflow log report.json --model scans/3 --tracking-uri http://127.0.0.1:5000 --gate-alias champion

        auditcore mlflow log 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 --url https://auditcore.example --model scans/3
    """
    missing = missing_extra(EXTRAS["mlflow"])
    if missing is not None:
        stop(CommandError(missing))
    from auditcore.integrations.mlflow_log import NotLogged, VerdictForbids, log_report  # noqa: PLC0415 - an extra
    from auditcore.report.reading import read_report  # noqa: PLC0415 - loads pydantic

    try:
        files, address = _from_file(Path(report)) if Path(report).is_file() else _from_service(report, url)
        found = read_report(files["report.json"])
        logged = log_report(
            found, files, model=model, tracking_uri=tracking_uri, url=address, alias=gate_alias, stage=stage
        )
    except VerdictForbids as error:
        err.print(str(error), highlight=False, markup=False)
        raise typer.Exit(EXIT_FORBIDDEN) from None
    except NotLogged as error:
        stop(CommandError(str(error)))
    except CommandError as error:
        stop(error)
    except ValueError as error:
        stop(CommandError(f"{report} holds no report that can be read ({error}); give the JSON of a report"))
    if logged.run_id is None:
        err.print(f"{model} has no run, so only the version has tags", highlight=False, markup=False)
    if not logged.files_compared:
        err.print("the files of the version could not be compared with those that were audited", highlight=False)
    out.print(f"{len(logged.metrics)} metrics logged for {model}: {found.verdict}", highlight=False, markup=False)


def _from_file(path: Path) -> tuple[dict[str, bytes], str | None]:
    """Report and page of a file; the page has no pictures, which only the service has."""
    from auditcore.report.page.html import render_html  # noqa: PLC0415 - loads jinja2
    from auditcore_service.cli.given_files import read_file, read_report_file  # noqa: PLC0415 - loads pydantic

    page = render_html(read_report_file(path)).encode()
    return {"report.json": read_file(path), "report.html": page}, None


def _from_service(audit_id: str, url: str | None) -> tuple[dict[str, bytes], str]:
    from auditcore.client import Client, ClientError  # noqa: PLC0415 - loads httpx

    try:
        with Client(url) as client:
            files = {
                "report.json": client.report_as(audit_id, "json"),
                "report.html": client.report_as(audit_id, "html"),
            }
            return files, f"{client.url}/v1/audits/{audit_id}"
    except ClientError as error:
        message = f"there is no file {audit_id}, and {error}"
        raise CommandError(message, code=error.code) from error
