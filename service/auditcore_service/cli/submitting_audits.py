"""The command `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditcore_service.cli.credentials import token_source
from auditcore_service.cli.destinations import check_destinations
from auditcore_service.cli.finishing import finish
from auditcore_service.cli.options import (
    AnnotationsOption,
    BoxesOption,
    BoxFormatOption,
    ClassesOption,
    FoldersOption,
    Given,
    HtmlOption,
    ImagesOption,
    JunitOption,
    LabelsOption,
    MarkdownOption,
    MasksOption,
    OutOption,
    TagOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
    check_annotations,
)
from auditcore_service.cli.outcome import CommandError, err
from auditcore_service.cli.problems import problems

app = typer.Typer()


@app.command(rich_help_panel="Audit")
def submit(
    request: Annotated[Path, typer.Argument(help="Request file; `images` may be left out with --images.")],
    url: UrlOption = "http://127.0.0.1:8000",
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    images: ImagesOption = None,
    labels: LabelsOption = None,
    boxes: BoxesOption = None,
    box_format: BoxFormatOption = None,
    masks: MasksOption = None,
    annotations: AnnotationsOption = None,
    classes: ClassesOption = None,
    labels_from_folders: FoldersOption = False,  # noqa: FBT002 - a flag of the command line
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the audit to its verdict.")] = False,  # noqa: FBT002 - a flag of the command line
    out_file: OutOption = None,
    html_file: HtmlOption = None,
    junit_file: JunitOption = None,
    markdown_file: MarkdownOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show each call as a curl command.")] = False,  # noqa: FBT002 - a flag of the command line
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FILE",
            help="Earlier audit of the same images, for conditions on changes and for the check agreement: its id, or "
            "its report as the service served it.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the audit in lists.")] = None,
    tag: TagOption = None,
) -> None:
    """Submit an audit to a service; with --wait, follow it to its verdict.

    Prints the audit's id on standard output, and its address and that of its page on standard error, as soon as the
    service has accepted it. With --wait it exits with 0 for the verdicts pass, warn and not_evaluated, 1 for fail,
    3 for inconclusive, 2 for an error, so a pipeline can gate on it. Ctrl-C stops waiting, not the audit.

    For example:

        auditcore submit request.json --images photos/ --wait --out report.json --url http://127.0.0.1:8000

        auditcore submit request.json --images photos/ --labels labels.json --boxes boxes.json

        auditcore submit request.json --images photos/ --wait --junit report.xml --markdown summary.md

        auditcore submit request.json --images photos/ --wait --baseline released.json

        auditcore submit request.json --images photos/ --name nightly --tag version:3.1
    """
    with problems("submit", kept="no audit was submitted; images that were uploaded completely stay stored"):
        from auditcore_service.cli.audit_labels import with_labels  # noqa: PLC0415 - only what submits needs it
        from auditcore_service.cli.followed_audit import (  # noqa: PLC0415 - needs httpx
            addresses,
            follow_audit,
            stop_waiting,
        )
        from auditcore_service.cli.found_images import (  # noqa: PLC0415 - only what submits loads httpx
            find_images,
            show_passed_over,
        )
        from auditcore_service.cli.given_baseline import (  # noqa: PLC0415 - only what submits loads pydantic
            naming_the_option,
            with_baseline,
        )
        from auditcore_service.cli.inputs import (  # noqa: PLC0415 - only what submits loads httpx
            gather_annotations,
            read_request,
        )
        from auditcore_service.cli.service_client import (  # noqa: PLC0415 - needs httpx
            connected,
            telling_what_to_do,
            upload_files,
        )

        wanted = {"--out": out_file, "--html": html_file, "--junit": junit_file, "--markdown": markdown_file}
        for option, path in wanted.items():
            if path is not None and not wait:
                message = f"{option} needs --wait: there is no report before the audit has ended"
                raise CommandError(message)
        given: Given = {
            "labels": labels,
            "boxes": boxes,
            "box_format": box_format and box_format.value,
            "masks": masks,
            "annotations": annotations,
            "classes": classes,
            "labels_from_folders": labels_from_folders,
        }
        check_annotations(images, given)
        check_destinations(wanted)
        document = read_request(request)
        with_labels(document, name=name, tags=tag or ())
        if baseline is not None:
            with_baseline(document, baseline)
        found = find_images(images, class_folders=labels_from_folders) if images else None
        known = None if found is None else gather_annotations(found.files, **given)
        credentials = token_source(token, token_file)
        with connected(url, token=credentials, narrate=_show_call if verbose else None) as client:
            if found is not None:
                show_passed_over(found)
                document["images"] = {"kind": "batch", "digest": upload_files(client, found.files, known)}
            with naming_the_option(baseline), telling_what_to_do(authenticated=credentials is not None):
                audit_id = client.submit(document).id
            address, page = addresses(client, audit_id)
            print(audit_id, flush=True)  # noqa: T201 - read by programs
            err.print(f"audit {audit_id} accepted: {address}\nits page: {page}", highlight=False, markup=False)
            if not wait:
                return
            try:
                done = follow_audit(
                    client,
                    audit_id,
                    {"json": out_file, "html": html_file, "junit": junit_file, "markdown": markdown_file},
                    err,
                )
            except KeyboardInterrupt:
                stop_waiting(client, audit_id, err, credentials)
        finish(done.report, done.files)


def _show_call(line: str) -> None:
    err.print(f"$ {line}", style="dim", highlight=False, markup=False)
