"""The command `remediate`: from a failed report to a fine-tuned model, and both audited alike, in this process."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from auditcore.contracts.access import AccessRules
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.report import AuditReport
from auditcore_service.cli.computing import chosen_device, computing, write_result
from auditcore_service.cli.inputs import read_request
from auditcore_service.cli.labeled_folders import read_labeled_folder
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress

MODEL = "model.json"


def read_plan(path: Path | None) -> RemedyPlan:
    """The plan in a file; the default one if None.

    Raises:
        CommandError: There is no such file, or it holds no plan.
    """
    if path is None:
        return RemedyPlan()
    document = read_request(path)
    try:
        return RemedyPlan.model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid plan of a remedy"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error


def remedy_report(
    failed: AuditReport,
    plan: RemedyPlan,
    *,
    training: Path,
    audited: Path,
    validation: Path | None,
    out: Path,
    access: AccessRules,
    device: str,
    progress: ShowProgress,
) -> RemedyReport:
    """Remedy a failed report, with weights and reports in a folder; one that was interrupted goes on there.

    URIs of the audited model are those of the report; files beside the report may be read.

    Args:
        failed: The report.
        plan: What may be tried.
        training: Folder of labeled images to train on.
        audited: Folder of the images of the failed audit.
        validation: Folder of labeled images to choose by; some of the others if None.
        out: Folder for the results.
        access: What the model's reference may reach.
        device: Where the model is trained and audited: auto, cpu, cuda, cuda:0 ...
        progress: Called with the share done, in [0, 1] or None while it is not known, and the stage.

    Raises:
        CommandError: The remedy cannot be carried out; the message names the field and how to fix it.
    """
    progress(None, "reading the images")
    images = read_labeled_folder(training, access.limits, option="--training")
    chosen_by = None if validation is None else read_labeled_folder(validation, access.limits, option="--validation")
    audited_images = read_labeled_folder(audited, access.limits, option="--audited")
    progress(None, "loading torch")
    device = chosen_device(device)
    from auditcore.remedies.local_remedy import remedy  # noqa: PLC0415 - loads torch

    request = RemedyRequest.model_validate({"images": images.reference, "plan": plan})
    with computing("the remedy cannot be carried out"):
        found = remedy(
            failed,
            request,
            audited_images=audited_images.images,
            images=images.images,
            validation=None if chosen_by is None else chosen_by.images,
            out=out,
            access=access,
            device=device,
            progress=progress,
        )
    if found.model is not None:
        write_result(out / MODEL, found.model.model_dump_json(indent=2).encode())
    return found.report


def show_remedy(report: RemedyReport, console: Console) -> None:
    """Print what was tried, what has changed, and the verdicts."""
    condition = report.condition
    name = " ".join(part for part in (condition.check, condition.metric, condition.variant) if part)
    tried = Table(title=f"tried: {report.request.plan.method} with {condition.explainer}, for {name}")
    for column in ("learning rate", "epochs", "validation score", name, ""):
        tried.add_column(column)
    tried.add_row("-", "0", _number(report.start_score), _number(report.start_value), "the audited model")
    for one in report.candidates:
        said = "chosen" if one.chosen else one.reason or ""
        tried.add_row(
            f"{one.learning_rate:g}", str(one.epochs), _number(one.validation_score), _number(one.value), said
        )
    console.print(tried)
    if report.verdict_after is not None:
        changed = Table(title="conditions of the policy")
        for column in ("condition", "result", "before", "after"):
            changed.add_column(column)
        for pair in report.conditions:
            result = " ".join(part for part in (pair.before.explainer, pair.before.metric, pair.before.variant) if part)
            before, after = (f"{_number(one.observed)} ({one.status})" for one in (pair.before, pair.after))
            changed.add_row(pair.before.id, result, before, after)
        accuracy = (_number(report.accuracy_before), _number(report.accuracy_after))
        changed.add_row("", "accuracy on the audited images", *accuracy)
        console.print(changed)
    console.print(f"{report.outcome}: {report.summary}", highlight=False, markup=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
