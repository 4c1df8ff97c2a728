"""The commands, with the help that teaches them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditcore_service.cli import following_audits, submitting_audits
from auditcore_service.cli.ci_commands import ci
from auditcore_service.cli.credentials import token_source
from auditcore_service.cli.destinations import check_destinations
from auditcore_service.cli.extras import CLIENT, EXTRAS
from auditcore_service.cli.finishing import finish
from auditcore_service.cli.mlflow_commands import mlflow
from auditcore_service.cli.options import (
    AnnotationsOption,
    BoxesOption,
    BoxFormatOption,
    ClassesOption,
    FoldersOption,
    Given,
    HtmlOption,
    ImagesOption,
    LabelsOption,
    MasksOption,
    OutOption,
    RemoteOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
    check_annotations,
)
from auditcore_service.cli.outcome import (
    EXIT_INTERRUPTED,
    EXIT_STATUS,
    EXIT_TERMINATED,
    CommandError,
    err,
    out,
)
from auditcore_service.cli.problems import problems
from auditcore_service.cli.progress import progress_bar
from auditcore_service.principals import DEFAULT_TENANT, ROLES, SCOPES

if TYPE_CHECKING:
    from auditcore_service.settings import Settings

app = typer.Typer(
    name="auditcore",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Audits the explanations of image classifiers: how stable they are, and how faithful to the model.\n\n"
        "Start here: `auditcore demo` audits an ImageNet model on eight photos; `auditcore serve` starts the service;\n"
        "`auditcore audit request.json` works without one."
    ),
)

app.add_typer(submitting_audits.app)
app.add_typer(following_audits.app)

policies = typer.Typer(
    name="policy",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at the policies that come with auditcore, and check your own before they decide anything.",
)
app.add_typer(policies, rich_help_panel="Audit")
app.add_typer(ci, rich_help_panel="Pipelines")
app.add_typer(mlflow, rich_help_panel="Pipelines")

tenants = typer.Typer(
    name="tenants",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at the tenants of a service and their limits, and change them. Reads the database, not the service.",
)
app.add_typer(tenants, rich_help_panel="Run the service")
api_keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make, list, rotate and revoke API keys, for the operator, who has the database of the service.\n\n"
    "The service may run or not. It looks at keys only with AUDIT_AUTHENTICATION=required. Roles and their scopes:\n\n"
    + "\n".join(f"* {role}: {', '.join(scopes)}" for role, scopes in ROLES.items()),
)
app.add_typer(api_keys, rich_help_panel="Run the service")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if wanted:
        out.print(installed_version("auditcore"), highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself; the text of its help is the app's."""


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@app.command(rich_help_panel="Run the service")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; AUDIT_HOST, or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one; AUDIT_PORT, or 8000.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for database and images; AUDIT_DATA_DIR.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that compute; AUDIT_WORKERS, or 1.")] = None,
) -> None:
    """Start the whole service in one process tree: gateway, workers, queue and database.

    Everything it stores is below one folder. Settings are environment variables with the prefix AUDIT_. Several workers
    share the cores, unless AUDIT_THREADS says how many threads each has.

    For example:

        auditcore serve --port 8000 --data var/auditcore

        curl http://127.0.0.1:8000/v1/catalogue
    """
    with problems("serve"):
        settings = _settings(host=host, port=port, data_dir=data, workers=workers)
        from auditcore_service.cli.starting import check_folder, starting  # noqa: PLC0415 - needs sqlalchemy
        from auditcore_service.embedded import process_tree as embedded  # noqa: PLC0415 - fastapi and celery load only for this command

        check_folder(settings)
        with starting(settings):
            embedded.run(settings, on_ready=lambda url: print(f"Listening on {url}", flush=True))  # noqa: T201 - read by programs
        err.print(
            f"stopped; audits and images are kept in {settings.data_dir}, and audits that were running go on at the "
            "next start",
            highlight=False,
            markup=False,
        )


@app.command(rich_help_panel="Run the service")
def gateway() -> None:
    """Start only the HTTP gateway of a service that is scaled out; needs no torch.

    For example:

        AUDIT_DATABASE_URL=postgresql://... AUDIT_REDIS_URL=redis://... AUDIT_BLOB_URL=s3://... auditcore gateway
    """
    with problems("gateway"):
        settings = _settings()
        from auditcore_service.cli.starting import check_queue, starting  # noqa: PLC0415 - needs sqlalchemy
        from auditcore_service.gateway import process  # noqa: PLC0415 - fastapi loads only for this command

        check_queue(settings)
        with starting(settings):
            process.run(settings)


@app.command(rich_help_panel="Run the service")
def worker(
    ping: Annotated[bool, typer.Option("--ping", help="Only ask the worker on this host whether it is alive.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Start only a worker of a service that is scaled out; one for each GPU.

    For example:

        AUDIT_DATABASE_URL=postgresql://... AUDIT_REDIS_URL=redis://... AUDIT_DEVICE=cuda:0 auditcore worker
    """
    with problems("worker"):
        settings = _settings()
        from auditcore_service.cli.starting import check_queue, starting  # noqa: PLC0415 - needs sqlalchemy

        check_queue(settings)
        if ping:
            from auditcore_service.cli.worker_ping import answers  # noqa: PLC0415 - celery loads only for this command

            raise typer.Exit(0 if answers(settings) else 1)
        from auditcore_service.worker.process import run_worker  # noqa: PLC0415 - celery loads only for this command

        with starting(settings):
            run_worker(settings)


@app.command(rich_help_panel="Run the service")
def collect(
    data: Annotated[Path | None, typer.Option(help="Folder of the service; AUDIT_DATA_DIR.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be done.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Delete files that nothing references, such as the images of deleted batches; a gateway does this every hour.

    A file is first set aside, and deleted by a later run. What has been stored or set aside in the last hours stays,
    because an upload may be under way. The service may run meanwhile.

    For example:

        auditcore collect --data var/auditcore --dry-run
    """
    with problems("collect"):
        settings = _settings(data_dir=data)
        from auditcore_service.cli import collecting  # noqa: PLC0415 - needs sqlalchemy

        found = collecting.collect(settings, dry_run=dry_run)
        collecting.show_collected(found, settings, out, dry_run=dry_run)


DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the service, if it has no database elsewhere; AUDIT_DATA_DIR."),
]


def _limit_option(what: str) -> Any:  # noqa: ANN401 - typer's own type of an option
    return typer.Option(metavar="NUMBER|none|default", help=what)


@tenants.command(name="list")
def list_tenants(data: DataOption = None) -> None:
    """List the tenants that have settings, with these settings.

    `default` means that the limit of the deployment is in force (AUDIT_REQUESTS_PER_MINUTE and so on), `none` that
    there is no limit.

    For example:

        auditcore tenants list --data var/auditcore
    """
    with problems("tenants"):
        settings = _settings(data_dir=data)
        from auditcore_service.cli.tenants import show_tenants, tenants_database  # noqa: PLC0415 - needs sqlalchemy

        with tenants_database(settings) as database:
            show_tenants(database, out)


@tenants.command(name="show")
def show_tenant(
    name: Annotated[str, typer.Argument(help="Name of the tenant.")] = "default",
    data: DataOption = None,
) -> None:
    """Print the limits of a tenant and what it uses of them: running audits, passes of today, stored bytes.

    For example:

        AUDIT_DATABASE_URL=postgresql://... auditcore tenants show research
    """
    with problems("tenants"):
        settings = _settings(data_dir=data)
        from auditcore_service.cli.tenants import show_tenant, tenants_database  # noqa: PLC0415 - needs sqlalchemy

        with tenants_database(settings) as database:
            show_tenant(database, settings, name, out)


@tenants.command(name="set")
def set_tenant(
    name: Annotated[str, typer.Argument(help="Name of the tenant; created if it does not exist.")],
    requests_per_minute: Annotated[str | None, _limit_option("Requests in a minute.")] = None,
    running_audits: Annotated[str | None, _limit_option("Audits that wait or run at the same time.")] = None,
    passes_per_day: Annotated[
        str | None, _limit_option("Forward passes, as estimated, of the audits submitted in a day (UTC).")
    ] = None,
    stored_bytes: Annotated[str | None, _limit_option("Bytes of image batches and maps.")] = None,
    retention_days: Annotated[
        str | None, _limit_option("Days after which what is finished is deleted; `none` keeps it for ever.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Change the limits of a tenant; those that are not named stay as they are.

    `none` lifts a limit, `default` puts that of the deployment back in force. Gateways count requests by the new limit
    within 10 seconds; the other limits are in force at once.

    For example:

        auditcore tenants set research --running-audits 4 --passes-per-day 50000000 --stored-bytes none
    """
    with problems("tenants"):
        settings = _settings(data_dir=data)
        from auditcore_service.cli.tenants import change_tenant, tenants_database  # noqa: PLC0415 - needs sqlalchemy

        with tenants_database(settings) as database:
            change_tenant(
                database,
                name,
                {
                    "requests_per_minute": requests_per_minute,
                    "running_audits": running_audits,
                    "passes_per_day": passes_per_day,
                    "stored_bytes": stored_bytes,
                    "retention_days": retention_days,
                },
            )
        err.print(f"tenant {name} is set; `auditcore tenants show {name}` prints it", highlight=False, markup=False)


TenantOption = Annotated[str, typer.Option(help="Whose key it is.")]
KeyIdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, with or without `ac_`.")]


@api_keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What to call it, such as the pipeline that has it.")],
    tenant: TenantOption = DEFAULT_TENANT,
    role: Annotated[list[str] | None, typer.Option(help=f"Scopes by name: {', '.join(ROLES)}; repeatable.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SCOPES)}; repeatable.")] = None,
    expires: Annotated[str, typer.Option(metavar="SPAN", help="Such as 90d or 12h; never for no end.")] = "90d",
    data: DataOption = None,
) -> None:
    """Make an API key, and print its secret, which is shown only now.

    The secret is on standard output, everything else on standard error.

    For example:

        auditcore keys create first --role admin

        auditcore keys create nightly --tenant acme --role pipeline --expires 90d > token.txt
    """
    with problems("keys"):
        from auditcore_service.cli.api_keys import create_key  # noqa: PLC0415 - sqlalchemy

        create_key(_settings(data_dir=data), tenant, name, roles=role or (), scopes=scope or (), expires=expires)


@api_keys.command("list")
def list_keys(
    tenant: TenantOption = DEFAULT_TENANT,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,  # noqa: FBT002 - a flag of the command line
    data: DataOption = None,
) -> None:
    """List the API keys of a tenant, newest first; revoked and expired ones too.

    For example:

        auditcore keys list --tenant acme
    """
    with problems("keys"):
        from auditcore_service.cli.api_keys import list_keys  # noqa: PLC0415 - sqlalchemy

        list_keys(_settings(data_dir=data), tenant, as_json=as_json)


@api_keys.command("rotate")
def rotate_key(
    key_id: KeyIdArgument,
    tenant: TenantOption = DEFAULT_TENANT,
    grace: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the secret before is accepted too; 0d ends it at once.")
    ] = "1d",
    data: DataOption = None,
) -> None:
    """Give an API key another secret, and print it; it is shown only now.

    For example:

        auditcore keys rotate ac_3kTMd9Zq --grace 12h > token.txt
    """
    with problems("keys"):
        from auditcore_service.cli.api_keys import rotate_key  # noqa: PLC0415 - sqlalchemy

        rotate_key(_settings(data_dir=data), tenant, key_id, grace=grace)


@api_keys.command("revoke")
def revoke_key(key_id: KeyIdArgument, tenant: TenantOption = DEFAULT_TENANT, data: DataOption = None) -> None:
    """Revoke an API key, at once and for good.

    For example:

        auditcore keys revoke ac_3kTMd9Zq --tenant acme
    """
    with problems("keys"):
        from auditcore_service.cli.api_keys import revoke_key  # noqa: PLC0415 - sqlalchemy

        revoke_key(_settings(data_dir=data), tenant, key_id)


@app.command(rich_help_panel="Audit")
def audit(
    request: Annotated[Path, typer.Argument(help="Request file: the JSON that would be sent to the service.")],
    images: ImagesOption = None,
    labels: LabelsOption = None,
    boxes: BoxesOption = None,
    box_format: BoxFormatOption = None,
    masks: MasksOption = None,
    annotations: AnnotationsOption = None,
    classes: ClassesOption = None,
    labels_from_folders: FoldersOption = False,  # noqa: FBT002 - a flag of the command line
    out_file: OutOption = None,
    html_file: HtmlOption = None,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = Device.AUTO,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Report of an earlier audit of the same images, for conditions on changes and for the check agreement."
        ),
    ] = None,
) -> None:
    """Audit in this process, without a service.

    URIs without a scheme are paths relative to the request file. Exits with 0 for the verdicts pass, warn and
    not_evaluated, 1 for fail, 3 for inconclusive, 2 for an error.

    For example:

        auditcore audit plan.json --images photos/ --out report.json --html report.html

        auditcore audit plan.json --images photos/ --labels labels.json --boxes boxes.json

        auditcore audit plan.json --images photos/ --baseline released.json
    """
    with problems("audit", kept="nothing is kept: an audit without a service has no intermediate results"):
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
        check_destinations({"--out": out_file, "--html": html_file})
        pictures: dict[str, bytes] | None = None if html_file is None else {}
        with progress_bar(err) as show:
            show(None, f"reading {request.name}")
            settings = _settings()
            from auditcore_service.cli.found_images import (  # noqa: PLC0415 - loads only what audits
                find_images,
                show_passed_over,
            )
            from auditcore_service.cli.given_baseline import naming_the_option  # noqa: PLC0415 - loads only what audits
            from auditcore_service.cli.inputs import gather_annotations  # noqa: PLC0415 - loads only what audits
            from auditcore_service.cli.local import audit_file  # noqa: PLC0415 - pydantic and torch load only here

            found = find_images(images, class_folders=labels_from_folders) if images else None
            if found is not None:
                show_passed_over(found)
            with naming_the_option(baseline):
                report = audit_file(
                    request,
                    images=() if found is None else found.files,
                    annotations=None if found is None else gather_annotations(found.files, **given),
                    access=settings.access,
                    device=device.value,
                    micro_batch=settings.micro_batch,
                    progress=show,
                    pictures=pictures,
                    baseline=baseline,
                )
        from auditcore.report.page.html import render_html  # noqa: PLC0415 - only what audits loads jinja2
        from auditcore.report.serialize import report_bytes  # noqa: PLC0415 - only what audits loads numpy

        files = {} if out_file is None else {out_file: report_bytes(report)}
        if html_file is not None:
            files[html_file] = render_html(report, None if pictures is None else pictures.get).encode()
        finish(report, files)


TrainingOption = Annotated[
    Path,
    typer.Option(
        help="Folder of labeled images to train on: `images` beside labels.csv or annotations.json (COCO), or a folder "
        "for each class."
    ),
]
ValidationOption = Annotated[
    Path | None,
    typer.Option(help="Folder of labeled images to validate on, like --training; a fifth of those if not given."),
]


@app.command(rich_help_panel="Train")
def train(
    request: Annotated[Path, typer.Argument(help="Request file: the JSON that would be sent to POST /v1/trainings.")],
    training: Annotated[
        Path | None,
        typer.Option(
            help="Folder of labeled images instead of the request's own: `images` beside labels.csv or "
            "annotations.json (COCO), or a folder for each class. Or give --images with --labels."
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Folder of labeled images to validate on, like --training, instead of the request's own."),
    ] = None,
    images: ImagesOption = None,
    labels: LabelsOption = None,
    annotations: AnnotationsOption = None,
    classes: ClassesOption = None,
    labels_from_folders: FoldersOption = False,  # noqa: FBT002 - a flag of the command line
    out_file: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write the weights, as a file of safetensors.")
    ] = Path("trained.safetensors"),
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Where to write the report; beside the weights if not given.")
    ] = None,
    checkpoint_file: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Where to write checkpoints; beside the weights if not given."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from, of the same request.")] = None,
    device: Annotated[Device, typer.Option(help="Where the model is trained.")] = Device.AUTO,
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", help="Address of a service that trains; this process if not given."),
    ] = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Train a model, in this process or with --url by a service, and write its weights and a report.

    URIs without a scheme are paths relative to the request file. Every image needs a label. The file of the model stays
    as it is. The model with its new weights, as an audit names it, is printed as JSON.

    A checkpoint is written about every minute, and at Ctrl-C, which ends the training after the running step. Trained
    further with --resume, the model gets the same weights as if nothing had happened, byte for byte on a CPU.

    With --url, images are uploaded, the training is submitted and followed, and URIs are those of the service; what is
    printed is the model as an audit of that service names it. Ctrl-C then stops waiting, not the training.

    For example:

        auditcore train request.json --training shapes/training --validation shapes/validation --out weights.safetensors

        auditcore train request.json --images photos/ --labels labels.json --out weights.safetensors

        auditcore train request.json --images photos/ --labels labels.json --resume weights.safetensors.checkpoint

        auditcore train request.json --training shapes/training --url http://127.0.0.1:8000 --out weights.safetensors
    """
    kept = (
        "a checkpoint is kept if one was written before; go on with --resume"
        if url is None
        else "images that were uploaded completely stay stored"
    )
    with problems("train", extra=None if url is None else CLIENT, kept=kept):
        given: Given = {
            "labels": labels,
            "boxes": None,
            "box_format": None,
            "masks": None,
            "annotations": annotations,
            "classes": classes,
            "labels_from_folders": labels_from_folders,
        }
        check_annotations(images, given)
        if training is not None and images:
            message = "--training and --images both name images to train on; give one of them"
            raise CommandError(message)
        if url is not None:
            for option, is_given in (
                ("--resume", resume is not None),
                ("--checkpoint", checkpoint_file is not None),
                ("--device", device is not Device.AUTO),
            ):
                if is_given:
                    message = f"{option} is for trainings in this process; leave it out, or leave out --url"
                    raise CommandError(message)
        report_file = report_file or out_file.with_name(f"{out_file.name}.report.json")
        checkpoint_file = checkpoint_file or out_file.with_name(f"{out_file.name}.checkpoint")
        check_destinations({"--out": out_file, "--report": report_file, "--checkpoint": checkpoint_file})
        if url is not None:
            _train_by_service(
                request,
                images=images,
                given=given,
                training=training,
                validation=validation,
                url=url,
                token=token_source(token, token_file),
                weights=out_file,
                report=report_file,
            )
            return
        with progress_bar(err) as show:
            show(None, f"reading {request.name}")
            settings = _settings()
            from auditcore_service.cli.found_images import (  # noqa: PLC0415 - loads only what trains
                find_images,
                show_passed_over,
            )
            from auditcore_service.cli.inputs import gather_annotations  # noqa: PLC0415 - loads only what trains
            from auditcore_service.cli.training import (  # noqa: PLC0415 - pydantic and torch load only here
                Interrupted,
                reference_of,
                show_training,
                train_file,
            )

            found = find_images(images, class_folders=labels_from_folders) if images else None
            if found is not None:
                show_passed_over(found)
            trained = train_file(
                request,
                images=() if found is None else found.files,
                annotations=None if found is None else gather_annotations(found.files, **given),
                training=training,
                validation=validation,
                access=settings.access,
                device=device.value,
                weights=out_file,
                report=report_file,
                checkpoint=checkpoint_file,
                resume=resume,
                progress=show,
            )
        if isinstance(trained, Interrupted):
            err.print(
                f"interrupted after step {trained.step} of {trained.steps}; go on with the same command and "
                f"--resume {trained.checkpoint}",
                highlight=False,
                markup=False,
            )
            raise typer.Exit(EXIT_INTERRUPTED)
        show_training(trained.report, err)
        err.print(f"weights written to {out_file}, report to {report_file}", highlight=False, markup=False)
        print(reference_of(trained, out_file).model_dump_json())  # noqa: T201 - read by programs


def _train_by_service(
    request: Path,
    *,
    images: list[Path] | None,
    given: Given,
    training: Path | None,
    validation: Path | None,
    url: str,
    token: Callable[[], str] | None,
    weights: Path,
    report: Path,
) -> None:
    """Let a service train, and show how it went.

    Raises:
        CommandError: The service refuses the training or cannot be reached, or the training failed or was cancelled.
    """
    from auditcore_service.cli.found_images import find_images, show_passed_over  # noqa: PLC0415 - only what uploads
    from auditcore_service.cli.inputs import gather_annotations  # noqa: PLC0415 - only what uploads
    from auditcore_service.cli.trained_by_service import (  # noqa: PLC0415 - loads httpx
        StillRunning,
        reference_in_service,
        train_by_service,
    )
    from auditcore_service.cli.training import show_training  # noqa: PLC0415 - loads pydantic

    found = find_images(images, class_folders=given["labels_from_folders"]) if images else None
    if found is not None:
        show_passed_over(found)
    try:
        trained = train_by_service(
            request,
            images=() if found is None else found.files,
            annotations=None if found is None else gather_annotations(found.files, **given),
            training=training,
            validation=validation,
            url=url,
            token=token,
            weights=weights,
            report=report,
            console=err,
        )
    except StillRunning as interrupted:
        err.print(interrupted.message, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    show_training(trained, err)
    err.print(f"weights written to {weights}, report to {report}", highlight=False, markup=False)
    print(reference_in_service(trained))  # noqa: T201 - read by programs


@app.command(rich_help_panel="Audit")
def gate(
    report: Annotated[Path, typer.Argument(help="Report file: the JSON of a finished audit.")],
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Policy to judge by: a file with a policy document or a list of conditions, or the name of a policy "
            "that comes with auditcore, such as quick-look. Without it, the report's own conditions.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Report of an earlier audit of the same images, for conditions on changes.")
    ] = None,
    out_file: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the report as judged.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Where to write JUnit XML.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Where to write a summary for a merge request.")
    ] = None,
    sarif_file: Annotated[Path | None, typer.Option("--sarif", help="Where to write SARIF 2.1.0.")] = None,
) -> None:
    """Judge a finished audit by a policy, without running it again.

    Needs no model, no images and no service. Exits with 0 for the verdicts pass and warn, 1 for fail, 3 for
    inconclusive, 2 for an error, so a pipeline can gate on it.

    For example:

        auditcore gate report.json --policy quick-look

        auditcore gate report.json --policy policy.json --markdown summary.md --junit report.xml

        auditcore gate report.json --policy regression --baseline released.json
    """
    with problems("gate"):
        wanted = {"--out": out_file, "--junit": junit_file, "--markdown": markdown_file, "--sarif": sarif_file}
        check_destinations(wanted)
        from auditcore.report.junit import render_junit  # noqa: PLC0415 - `--help` needs no pydantic
        from auditcore.report.markdown import render_markdown  # noqa: PLC0415 - the same
        from auditcore.report.sarif import render_sarif  # noqa: PLC0415 - the same
        from auditcore.report.serialize import report_bytes  # noqa: PLC0415 - the same
        from auditcore_service.cli.gating import judge_again, relative_uri  # noqa: PLC0415 - the same
        from auditcore_service.cli.report_view import show_outcomes  # noqa: PLC0415 - the same

        judged = judge_again(report, policy=policy, baseline=baseline)
        files = {} if out_file is None else {out_file: report_bytes(judged)}
        if junit_file is not None:
            files[junit_file] = render_junit(judged).encode()
        if markdown_file is not None:
            files[markdown_file] = render_markdown(judged).encode()
        if sarif_file is not None:
            files[sarif_file] = render_sarif(judged, policy_file=relative_uri(policy)).encode()
        finish(judged, files, show=show_outcomes)


@policies.command("lint")
def lint_policy(
    policy: Annotated[str, typer.Argument(metavar="FILE|NAME", help="Policy file, or the name of a shipped policy.")],
    plan: Annotated[Path | None, typer.Option(help="Request file whose plan the policy is for.")] = None,
) -> None:
    """Show what a policy lets pass that it probably should not.

    A map can be stable because it ignores the model. A policy that asks only for stability passes such a map. With
    --plan it also finds conditions on what the plan does not compute. Exits with 0 without findings, 1 with findings,
    2 if a file cannot be read.

    For example:

        auditcore policy lint policy.json

        auditcore policy lint policy.json --plan request.json
    """
    with problems("policy"):
        from auditcore_service.cli.policies import lint_policy, show_findings  # noqa: PLC0415 - pydantic

        findings = lint_policy(policy, plan)
        show_findings(findings, out)
        raise typer.Exit(1 if findings else 0)


@policies.command("show")
def show_policy(
    name: Annotated[str, typer.Argument(help="quick-look, pre-deployment or regression.")],
) -> None:
    """Print a policy that comes with auditcore, with the reason of every threshold, to start from.

    For example:

        auditcore policy show pre-deployment > policy.json
    """
    with problems("policy"):
        from auditcore_service.cli.policies import shipped_document  # noqa: PLC0415 - pydantic

        print(shipped_document(name).model_dump_json(indent=2, exclude_defaults=True))  # noqa: T201 - read by programs


@app.command(rich_help_panel="Audit")
def maps(
    file: Annotated[Path, typer.Argument(help="Maps in the safetensors format.", exists=True, dir_okay=False)],
    url: UrlOption = "http://127.0.0.1:8000",
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Upload heat maps from elsewhere, such as those that your product shows, to audit them.

    The file holds one tensor `maps` of (N,H,W) or (N,C,H,W) in the order of the images, where H and W are the height
    and width of the model's input, and optionally `targets` of (N,) int64, the class that each map explains. Prints the
    digest that a plan names.

    For example:

        python -c "from safetensors.numpy import save_file; save_file({'maps': maps}, 'maps.safetensors')"

        auditcore maps maps.safetensors    # then: {"kind": "precomputed", "maps": "sha256:..."}
    """
    with problems("maps"):
        from auditcore_service.cli.service_client import connected  # noqa: PLC0415 - only what asks loads httpx

        with connected(url, token=token_source(token, token_file)) as client:
            out.print(client.upload_maps(file), highlight=False)


@app.command(rich_help_panel="Audit")
def estimate(
    request: Annotated[Path, typer.Argument(help="Request file; `images` may be left out with --images.")],
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", envvar="AUDIT_URL", help="Service to ask, which knows the speed of its workers."),
    ] = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    images: ImagesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Estimate what an audit costs, in passes and seconds, without running it.

    Without --url no service is asked and no model is loaded: passes follow from the plan, seconds from
    AUDIT_PASSES_PER_S. A service answers from the speed that its workers have measured; images given here are uploaded
    to it, as `submit` does. Exits with 0 within the operator's budget, 1 above it, 2 for an error.

    For example:

        auditcore estimate request.json --images photos/

        auditcore estimate request.json --images photos/ --url http://127.0.0.1:8000
    """
    with problems("estimate", extra=None if url is None else CLIENT):
        from auditcore_service.cli.pricing import ask_service, price_locally, show_price  # noqa: PLC0415 - pydantic

        answer = (
            price_locally(request, images=images or (), settings=_settings())
            if url is None
            else ask_service(request, images=images or (), url=url, token=token_source(token, token_file))
        )
        show_price(answer, out, as_json=as_json)
        raise typer.Exit(0 if answer.within_budget else 1)


@app.command(name="inspect", rich_help_panel="Audit")
def inspect_model(
    model: Annotated[Path, typer.Argument(help="Request file, or a file with only a model reference.")],
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", envvar="AUDIT_URL", help="Service to ask; without one, the model is loaded here."),
    ] = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Show which explainers and checks will run on a model, and why the others will not.

    For a request, it looks at the plan; for a model reference, at all explainers and checks. It also shows the version
    and digest that an audit would pin. Exits with 0 if something runs, 1 if nothing does, 2 for an error.

    For example:

        echo '{"kind": "demo"}' > model.json && auditcore inspect model.json

        auditcore inspect request.json --url http://127.0.0.1:8000
    """
    with problems("inspect", extra=None if url is None else CLIENT, kept="nothing is kept"):
        with progress_bar(err) as show:
            show(None, f"reading {model.name}")
            from auditcore_service.cli.inspecting import (  # noqa: PLC0415 - loads pydantic
                ask_service,
                inspect_here,
                show_inspection,
            )

            if url is None:
                found = inspect_here(model, access=_settings().access, progress=show)
            else:
                show(None, f"asking {url}; a worker may have to load the model first")
                found = ask_service(model, url=url, token=token_source(token, token_file))
        show_inspection(found, out, as_json=as_json)
        raise typer.Exit(0 if any(one.runs for one in (*found.explainers, *found.checks)) else 1)


@app.command(rich_help_panel="Train")
def study(
    request: Annotated[Path, typer.Argument(help="Request file: `model`, and `plan` with methods, seeds and audit.")],
    training: TrainingOption,
    test: Annotated[Path, typer.Option(help="Folder of labeled images to audit on, like --training.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study; goes on with what it holds.")],
    validation: ValidationOption = None,
    device: Annotated[Device, typer.Option(help="Where models are trained and audited.")] = Device.AUTO,
    url: RemoteOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Compare training methods: train each with several seeds, audit the models together, and print the tables.

    Weights and reports are kept in the folder as they are made. After Ctrl-C, the same command goes on where it was.
    With --url the workers of a service do it, and Ctrl-C only stops waiting.

    For example:

        auditcore study mixup.json --training shapes/training --test shapes/test --out mixup-study

        auditcore study mixup.json --training shapes/training --test shapes/test --out mixup-study --url $AUDIT_URL
    """
    kept = "what is done is kept; the same command goes on with it"
    with problems("study", extra=None if url is None else CLIENT, kept=kept):
        if url is not None:
            from auditcore_service.cli import submitting_experiments as remote  # noqa: PLC0415 - needs httpx
            from auditcore_service.cli.inputs import read_request  # noqa: PLC0415 - only what submits loads httpx

            folders = remote.Folders(training, validation, test)
            service = remote.Remote(url, token_source(token, token_file))
            remote.run_remotely(service, read_request(request), folders, folder, err)
            out.print((folder / "tables.md").read_text(), highlight=False, markup=False)
            err.print(f"study written to {folder}", highlight=False, markup=False)
            return
        with progress_bar(err) as show:
            show(None, f"reading {request.name}")
            settings = _settings()
            from auditcore_service.cli.studying import study_file  # noqa: PLC0415 - pydantic and torch load only here

            study_file(
                request,
                training=training,
                test=test,
                validation=validation,
                out=folder,
                access=settings.access,
                device=device.value,
                progress=show,
            )
        out.print((folder / "tables.md").read_text(), highlight=False, markup=False)
        err.print(f"study written to {folder}", highlight=False, markup=False)


@app.command(rich_help_panel="Train")
def measure(
    request: Annotated[
        Path, typer.Argument(help="Request file: `model`, and `plan` of kind `roar`, `f_fidelity` or `idsds`.")
    ],
    training: TrainingOption,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; the same command goes on with what it holds.")
    ],
    validation: ValidationOption = None,
    device: Annotated[Device, typer.Option(help="Where models are trained.")] = Device.AUTO,
    url: RemoteOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Measure explainers by training again: ROAR and KAR, F-Fidelity, IDSDS.

    ROAR removes what an explainer calls relevant and trains again, so it costs a training for each explainer, share and
    repeat: 50 and more. F-Fidelity and IDSDS fine-tune once, so that images with missing parts are nothing new to the
    model. `budget_seconds` of the request refuses what would take longer, before anything is trained. With --url the
    workers of a service do it, and Ctrl-C only stops waiting.

    For example:

        auditcore measure roar.json --training shapes/training --validation shapes/validation --out roar
    """
    kept = "what is done is kept; the same command goes on with it"
    with problems("measure", extra=None if url is None else CLIENT, kept=kept):
        if url is not None:
            from auditcore_service.cli import submitting_experiments as remote  # noqa: PLC0415 - needs httpx
            from auditcore_service.cli.inputs import read_request  # noqa: PLC0415 - only what submits loads httpx
            from auditcore_service.cli.measuring import show_measurement  # noqa: PLC0415 - loads pydantic

            folders = remote.Folders(training, validation)
            service = remote.Remote(url, token_source(token, token_file))
            content = remote.run_remotely(service, read_request(request), folders, folder, err)
            show_measurement(remote.read_measurement(content), out)
            err.print(f"report written to {folder}", highlight=False, markup=False)
            return
        with progress_bar(err) as show:
            show(None, f"reading {request.name}")
            settings = _settings()
            from auditcore_service.cli.measuring import measure_file, show_measurement  # noqa: PLC0415 - pydantic and torch load only here

            report = measure_file(
                request,
                training=training,
                validation=validation,
                out=folder,
                access=settings.access,
                device=device.value,
                progress=show,
            )
        show_measurement(report, out)
        err.print(f"report written to {folder}", highlight=False, markup=False)


@app.command(rich_help_panel="Train")
def remediate(
    report: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ID",
            help="Report of the audit that failed, on one model; with --url also the id of the audit.",
        ),
    ],
    training: TrainingOption,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for weights and reports.")],
    audited: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images of that audit, like --training. A service has them, so not with --url."
        ),
    ] = None,
    validation: ValidationOption = None,
    plan: Annotated[
        Path | None, typer.Option(help="What may be tried: a JSON file of `RemedyPlan`; a short search if not given.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the model is trained and audited.")] = Device.AUTO,
    url: RemoteOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Fine-tune the model of a failed audit so that its explanations become faithful, and audit it again.

    Works on the first missed condition about faithfulness, with the explainer that failed. The model stays as it is:
    the result is a new file of weights, and a report with both verdicts and what it cost in accuracy. Exits like
    `auditcore audit` by the verdict of the new model, with 1 if nothing that was tried kept the accuracy.

    For example:

        auditcore remediate report.json --training shapes/training --audited shapes/test --out remedy

        auditcore remediate 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 --training shapes/training --out remedy -u $AUDIT_URL
    """
    kept = "what is done is kept; the same command goes on with it"
    with problems("remediate", extra=None if url is None else CLIENT, kept=kept):
        from auditcore_service.cli.remedying import show_remedy  # noqa: PLC0415 - loads pydantic

        if url is not None:
            from auditcore_service.cli import submitting_experiments as remote  # noqa: PLC0415 - needs httpx

            if audited is not None:
                message = "--audited and --url exclude each other: the service has the images of its audit"
                raise CommandError(message)
            folders = remote.Folders(training, validation)
            service = remote.Remote(url, token_source(token, token_file))
            content = remote.run_remotely(service, remote.remedy_request(report, plan), folders, folder, err)
            done = remote.read_remedy(content)
            show_remedy(done, out)
            err.print(f"remedy written to {folder}", highlight=False, markup=False)
            raise typer.Exit(EXIT_STATUS[done.verdict_after or "fail"])
        if audited is None:
            message = "give the folder of the images of the failed audit as --audited"
            raise CommandError(message)
        failed = Path(report)
        with progress_bar(err) as show:
            show(None, f"reading {failed.name}")
            settings = _settings()
            from auditcore_service.cli.given_files import read_report_file  # noqa: PLC0415 - loads only what it needs
            from auditcore_service.cli.remedying import (  # noqa: PLC0415 - pydantic and torch load only here
                read_plan,
                remedy_report,
            )

            found = remedy_report(
                read_report_file(failed),
                read_plan(plan),
                training=training,
                audited=audited,
                validation=validation,
                out=folder,
                access=settings.access.model_copy(
                    update={"file_roots": (*settings.access.file_roots, failed.absolute().parent)}
                ),
                device=device.value,
                progress=show,
            )
        show_remedy(found, out)
        err.print(f"remedy written to {folder}", highlight=False, markup=False)
        raise typer.Exit(EXIT_STATUS[found.verdict_after or "fail"])


@app.command(rich_help_panel="Audit")
def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for demo-report.json and .html.")] = Path(),
) -> None:
    """Audit EfficientNet-Lite0 on eight real photos over HTTP, with a service started for it.

    Nothing is downloaded: weights and photos come with the extra `auditcore[demo]`.

    For example:

        auditcore demo --out /tmp
    """
    with problems("demo", kept="nothing is kept: the service of the demo is stopped and its folder removed"):
        from auditcore_service.cli.demo import run_demo  # noqa: PLC0415 - needs the extra

        # ends like Ctrl-C: the service is shut down and its folder removed
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
        run_demo(folder)


class MadeUp(StrEnum):
    """Which images are made."""

    OBJECTS_ON_SCENES = "objects-on-scenes"
    DIGITS = "digits"


class MadeUpLabels(StrEnum):
    """What the label of an image is."""

    OBJECTS = "objects"
    SCENES = "scenes"


@app.command(rich_help_panel="Data")
def synthetic(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it does not exist yet.")],
    kind: Annotated[
        MadeUp, typer.Option(help="Textured objects on textured scenes, or scikit-learn's digits.")
    ] = MadeUp.OBJECTS_ON_SCENES,
    images: Annotated[int | None, typer.Option(help="Number of images of all parts together; 1600.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width of images in px, from 24 on; 32.")] = None,
    labels: Annotated[
        MadeUpLabels | None, typer.Option(help="Whether labels name the object or the scene; objects.")
    ] = None,
    object_classes: Annotated[int | None, typer.Option(help="Number of classes of objects, 2 to 12; 10.")] = None,
    scene_classes: Annotated[int | None, typer.Option(help="Number of classes of scenes, 2 to 12; 10.")] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            help="Plant a shortcut: a mark in a corner, whose color is that of the image's class with this probability "
            "and that of another class otherwise. Without it, there are no marks."
        ),
    ] = None,
    validation: Annotated[float | None, typer.Option(help="Share of images for validation; 0.2.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of images for tests; 0.2.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same images; 0.")] = None,
) -> None:
    """Make images whose truth is known, to try everything on: training, audit, remedy.

    Labels, boxes and masks are exact. Only outlines tell the classes of objects, and only textures those of scenes;
    colors tell nothing. Writes training, validation and test images, each with `images/`, `annotations.json` (COCO),
    `labels.csv` and `classes.txt`; `objects.json` and `marks.json` have the masks of objects and of marks. With
    --agreement, it also writes the test images without marks (`test_unmarked`) and with marks of other classes
    (`test_contradicting`): a model that follows the shortcut fails on the latter.

    Digits come divided into 60, 20 and 20 %, in the order of their file.

    For example:

        auditcore synthetic shapes --images 1600 --agreement 0.95

        auditcore synthetic scenes --labels scenes --object-classes 4 --scene-classes 4

        auditcore synthetic digits --kind digits --size 32
    """
    with problems("synthetic", kept="nothing is written"):
        from auditcore_service.cli.generating import (  # noqa: PLC0415 - numpy and Pillow
            check_folder,
            generate_parts,
            show_parts,
            write_parts,
        )

        check_folder(folder)
        default = 1600 if kind is MadeUp.OBJECTS_ON_SCENES else None
        parts = generate_parts(
            kind,
            {
                "images": default if images is None else images,
                "size_px": size,
                "labels": labels,
                "object_classes": object_classes,
                "scene_classes": scene_classes,
                "seed": seed,
            },
            agreement=agreement,
            validation=validation,
            test=test,
        )
        write_parts(parts, folder)
        show_parts(parts, folder, out)


KeyOption = Annotated[
    list[Path] | None,
    typer.Option("--key", "-k", help="File with a public key that you trust, in PEM; repeatable."),
]


@app.command(rich_help_panel="Evidence")
def verify(
    report: Annotated[Path, typer.Argument(help="The report, byte for byte as the service served it.")],
    evidence: Annotated[
        Path, typer.Argument(help="Its evidence, from GET /v1/audits/ID/evidence, or the same of a training.")
    ],
    keys: KeyOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="The weights that a training has made, to compare with its report.")
    ] = None,
) -> None:
    """Verify offline that a result was signed, is this report's, and was judged by criteria fixed before.

    The report may be that of a training: then what is verified is from which images, plan and weights its weights come.
    Get the public key from the operator of the service, not from where the evidence came. Exits with 0 if everything
    holds, 1 if not, with every reason, 2 if a file cannot be read.

    For example:

        curl -s $AUDIT/report > report.json && curl -s $AUDIT/evidence > evidence.json

        auditcore verify report.json evidence.json --key public.pem

        auditcore verify training-report.json evidence.json --weights weights.safetensors --key public.pem
    """
    with problems("verify"):
        from auditcore_service.cli.verifying import show_verification, verify_files  # noqa: PLC0415 - cryptography

        if not keys:
            message = "no key is trusted yet: name a public key with --key"
            raise CommandError(message)
        found = verify_files(report, evidence, keys, weights=weights)
        show_verification(found, out)
        raise typer.Exit(1 if found.findings else 0)


@app.command(name="verify-log", rich_help_panel="Evidence")
def verify_log(
    url: Annotated[str | None, typer.Option("--url", "-u", envvar="AUDIT_URL", help="Service whose log it is.")] = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    database: Annotated[
        str | None, typer.Option(help="URL of the database instead, such as postgresql://user@host/name.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose log in the database.")] = DEFAULT_TENANT,
    head: Annotated[
        Path | None, typer.Option(help="An earlier signed head, from GET /v1/log/head, which must be in the log.")
    ] = None,
    keys: KeyOption = None,
) -> None:
    """Verify the event log: recompute every hash of its chain.

    Only a head that was kept elsewhere shows that entries are missing at the end, or that all were written again. Exits
    with 0 if everything holds, 1 if not, with every reason, 2 if the log cannot be read.

    For example:

        auditcore verify-log --url http://127.0.0.1:8000 --head head.json --key public.pem

        auditcore verify-log --database sqlite:///var/auditcore/auditcore.db
    """
    with problems("verify-log", extra=None if database is None else EXTRAS["gateway"]):
        from auditcore_service.cli import verifying  # noqa: PLC0415 - cryptography loads only for this command

        if url is None and database is None:
            message = "say whose log to verify: give --url or --database"
            raise CommandError(message)
        if (head is None) != (not keys):
            message = "--head and --key belong together: the key says who must have signed the head"
            raise CommandError(message)
        entries = (
            verifying.entries_of_service(url or "", token=token_source(token, token_file))
            if database is None
            else verifying.entries_of_database(database, tenant)
        )
        count, findings = verifying.verify_log(entries, head, keys or ())
        if findings:
            verifying.show_findings(findings, "the log does not hold", out)
            raise typer.Exit(1)
        out.print(f"the log holds: {count} entries", highlight=False)


@app.command(name="signing-key", rich_help_panel="Evidence")
def signing_key(
    file: Annotated[Path, typer.Argument(help="File with a private or public key in PEM.")],
    create: Annotated[bool, typer.Option("--create", help="Make a new private key in a new file.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Print the public key of a key file on standard output, and its id on standard error.

    AUDIT_SIGNING_KEY names the file with the private key of a service; give the public key to those who verify.

    For example:

        auditcore signing-key signing-key.pem --create > public.pem
    """
    with problems("signing-key"):
        from auditcore_service.cli.verifying import create_key, read_keys  # noqa: PLC0415 - cryptography

        key = create_key(file) if create else read_keys([file])[0]
        print(key.pem, end="")  # noqa: T201 - read by programs
        err.print(f"key {key.key_id}", highlight=False, markup=False)


@app.command(rich_help_panel="Serve a model")
def mar(
    model: Annotated[Path, typer.Argument(help="File with a model reference, or a request with `model`.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The archive to write.")],
    name: Annotated[str, typer.Option(help="Name of the model in TorchServe.")],
    version: Annotated[str, typer.Option("--model-version", help="Its version.")] = "1.0",
    extra: Annotated[
        list[Path] | None, typer.Option("--extra", help="File to put beside the handler, such as a factory's module.")
    ] = None,
) -> None:
    """Archive a model for TorchServe, with a handler that answers all classes and runs any explainer.

    The archive can be audited too, as a model of kind `mar`. See docker/torchserve.

    For example:

        auditcore mar model.json --name scans --model-version 3.0 --out model-store/scans.mar
    """
    with problems("mar", kept="no archive is written"):
        check_destinations({"--out": out_file})
        from auditcore_service.cli.archiving import archive  # noqa: PLC0415 - torch

        archive(model, out_file, name=name, version=version, extra=extra or (), access=_settings().access)
        err.print(f"archive written to {out_file}", highlight=False)


@app.command(rich_help_panel="For developers")
def openapi(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of openapi.json and report.schema.json.")] = Path(
        "openapi"
    ),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 1 when they differ.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Write the service's OpenAPI document and the report's JSON schema.

    For example:

        auditcore openapi --out openapi --check
    """
    with problems("openapi"):
        from auditcore_service.cli.documents import documents  # noqa: PLC0415 - fastapi loads only for this command

        drifted = []
        for name, text in documents().items():
            path = folder / name
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            drifted.append(path)
            if not check:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        for path in drifted:
            result = "differs from the code; run `make openapi`" if check else "written"
            err.print(f"{path} {result}", highlight=False)
        if check and drifted:
            raise typer.Exit(1)


def _settings(**given: Any) -> Settings:  # noqa: ANN401 - options of different types
    """Settings from the environment, with the options of the command line on top."""
    from auditcore_service.cli.environment import read_settings  # noqa: PLC0415 - `--help` needs no pydantic

    return read_settings(**given)
