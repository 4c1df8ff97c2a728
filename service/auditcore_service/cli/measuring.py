"""The command `measure`: measures that retrain the model, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from auditcore.contracts.access import AccessRules
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityReport, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.roar import RoarPlan, RoarReport, RoarRequest
from auditcore.contracts.retraining.statistic import Statistic
from auditcore_service.cli.computing import chosen_device, computing
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.labeled_folders import read_labeled_folder
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress

Plan = RoarPlan | FFidelityPlan | IdsdsPlan
Report = RoarReport | FFidelityReport | IdsdsReport

_PLAN: TypeAdapter[Plan] = TypeAdapter(Annotated[Plan, Field(discriminator="kind")])
_REQUESTS: Mapping[type[Plan], type[RoarRequest | FFidelityRequest | IdsdsRequest]] = {
    RoarPlan: RoarRequest,
    FFidelityPlan: FFidelityRequest,
    IdsdsPlan: IdsdsRequest,
}


def measure_file(
    path: Path,
    *,
    training: Path,
    validation: Path | None,
    out: Path,
    access: AccessRules,
    device: str,
    progress: ShowProgress,
) -> Report:
    """Measure as a request file says, and write the report to a folder.

    Everything that is done is kept in the folder, fine-tuned weights among it, and the same call goes on with it.

    Args:
        path: The request file: `model` and `plan`; images come from folders.
        training: Folder of labeled images to train on.
        validation: Folder of labeled images to measure on; some of the others if None.
        out: Folder for the results.
        access: What the request may reach.
        device: Where models are trained: auto, cpu, cuda, cuda:0 ...
        progress: Called with the share done, in [0, 1] or None while it is not known, and the stage.

    Raises:
        CommandError: The measurement cannot be carried out; the message names the field and how to fix it.
    """
    document = read_request(path)
    resolve_paths(document, path.absolute().parent)
    progress(None, "reading the images")
    images = read_labeled_folder(training, access.limits, option="--training")
    measured = None if validation is None else read_labeled_folder(validation, access.limits, option="--validation")
    document["images"] = images.reference
    if measured is not None:
        document["validation"] = measured.reference
    try:
        plan = _PLAN.validate_python(document.get("plan"))
        request = _REQUESTS[type(plan)].model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid request for a measure that retrains"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error
    device = chosen_device(device)
    from auditcore.retraining.local_fine_tuned import f_fidelity, idsds  # noqa: PLC0415 - loads torch
    from auditcore.retraining.local_roar import roar  # noqa: PLC0415 - loads torch

    rules = access.model_copy(update={"file_roots": (*access.file_roots, path.absolute().parent)})
    others = None if measured is None else measured.images

    def told(share: float) -> None:
        progress(share, "measuring")

    with computing(f"the measurement of {path} cannot be carried out"):
        match request:
            case RoarRequest():
                return roar(
                    request,
                    images=images.images,
                    validation=others,
                    access=rules,
                    device=device,
                    out=out,
                    progress=told,
                )
            case FFidelityRequest():
                return f_fidelity(
                    request,
                    images=images.images,
                    validation=others,
                    access=rules,
                    device=device,
                    out=out,
                    progress=told,
                )
            case IdsdsRequest():
                return idsds(
                    request,
                    images=images.images,
                    validation=others,
                    access=rules,
                    device=device,
                    out=out,
                    progress=told,
                )


def show_measurement(report: Report, console: Console) -> None:
    """Print what each explainer has got, and how much better that is than chance."""
    table = Table(title=report.request.plan.kind)
    for column in ("explainer", "metric", "mean", "95 % interval", "better than random by", "95 % interval"):
        table.add_column(column)
    if isinstance(report, RoarReport):
        rows = [(one.explainer, f"area, {one.measure}", one.area, one.gain) for one in report.results]
    else:
        rows = [(one.explainer, one.metric, one.score, one.gain) for one in report.results]
    for explainer, metric, score, gain in rows:
        table.add_row(explainer, metric, *_cells(score), *(("", "") if gain is None else _cells(gain)))
    console.print(table)
    for explainer, why in report.not_applicable.items():
        console.print(f"{explainer} cannot run here: {why}", highlight=False, markup=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _cells(statistic: Statistic) -> tuple[str, str]:
    mean = "-" if statistic.mean is None else f"{statistic.mean:.3g}"
    ci = "-" if statistic.ci is None else f"{statistic.ci[0]:.3g} to {statistic.ci[1]:.3g}"
    return mean, ci
