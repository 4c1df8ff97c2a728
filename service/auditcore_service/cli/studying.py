"""The command `study`: training methods compared over seeds, in this process."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from auditcore.contracts.access import AccessRules
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.studies.report import StudyReport
from auditcore_service.cli.computing import chosen_device, computing
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.labeled_folders import read_labeled_folder
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress


def study_file(
    path: Path,
    *,
    training: Path,
    test: Path,
    validation: Path | None,
    out: Path,
    access: AccessRules,
    device: str,
    progress: ShowProgress,
) -> StudyReport:
    """Run or go on with the study of a request file.

    Args:
        path: The file: `model` and `plan`; images come from folders.
        training: Folder of labeled images to train on.
        test: Folder of labeled images to audit on.
        validation: Folder of labeled images to validate on; some of the training images if None.
        out: Folder of the study.
        access: What the request may reach.
        device: Where models are trained and audited: auto, cpu, cuda, cuda:0 ...
        progress: Called with the share done, in [0, 1] or None while it is not known, and the stage.

    Raises:
        CommandError: The study cannot be carried out; the message names the field and how to fix it.
    """
    document = read_request(path)
    resolve_paths(document, path.absolute().parent)
    progress(None, "reading the images")
    images = read_labeled_folder(training, access.limits, option="--training")
    tested = read_labeled_folder(test, access.limits, option="--test")
    validated = None if validation is None else read_labeled_folder(validation, access.limits, option="--validation")
    document |= {"images": images.reference, "test": tested.reference}
    if validated is not None:
        document["validation"] = validated.reference
    try:
        request = StudyRequest.model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid study"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error
    progress(None, "loading torch")
    device = chosen_device(device)
    from auditcore.studies.local_study import study  # noqa: PLC0415 - loads torch

    with computing(f"the study of {path} cannot be carried out"):
        return study(
            request,
            out=out,
            images=images.images,
            validation=None if validated is None else validated.images,
            test=tested.images,
            access=access.model_copy(update={"file_roots": (*access.file_roots, path.absolute().parent)}),
            device=device,
            progress=progress,
        )
