"""The command `train`: a training in this process, from a request file, without service, queue or database."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from pydantic import ValidationError
from rich.console import Console

from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.orchestration.reading_images import manifest_digest
from auditcore_service.cli.computing import chosen_device, computing, write_result
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.given_files import read_file
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.interruption import noting_ctrl_c
from auditcore_service.cli.labeled_folders import read_labeled_folder
from auditcore_service.cli.local import encode
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress
from auditcore_service.use_cases.annotations import GivenAnnotations, read_class_names

if TYPE_CHECKING:
    from auditcore.training.local_training import PreparedTraining, Trained

CHECKPOINT_S = 60.0
"""Work after which a checkpoint is written; as much is repeated after a crash."""


@final
@dataclass(frozen=True)
class Interrupted:
    """A training that was ended by Ctrl-C, and goes on from its checkpoint.

    Attributes:
        checkpoint: The file.
        step: Number of steps that are done.
        steps: Number of all steps.
    """

    checkpoint: Path
    step: int
    steps: int


def train_file(
    path: Path,
    *,
    images: Sequence[ImageFile],
    annotations: GivenAnnotations | None,
    training: Path | None,
    validation: Path | None,
    access: AccessRules,
    device: str,
    weights: Path,
    report: Path,
    checkpoint: Path,
    resume: Path | None,
    progress: ShowProgress,
) -> Trained | Interrupted:
    """Train as a request file says, and write weights and report.

    A checkpoint is written about every minute and at Ctrl-C, and removed at the end.

    Args:
        path: The request file. URIs without a scheme are paths relative to its folder, which may be read.
        images: Image files to train on; none for those of the request file.
        annotations: What is known of `images`.
        training: Folder of labeled images instead of `images`; None for those.
        validation: Folder of labeled images to validate on; None for those of the request file.
        access: What else may be reached.
        device: Where the model is trained: auto, cpu, cuda, cuda:0 ...
        weights: Where the weights are written.
        report: Where the report is written.
        checkpoint: Where checkpoints are written.
        resume: A checkpoint to go on from.
        progress: Called with the share done, in [0, 1] or None while it is not known, and the stage.

    Raises:
        CommandError: The training cannot be carried out; the message names the field and how to fix it.
    """
    folder = path.absolute().parent
    start = None if resume is None else read_file(resume)
    document = read_request(path)
    resolve_paths(document, folder)
    if images or training or validation:
        progress(None, "reading the images")
    given = annotations or GivenAnnotations()
    encoded = encode(images, access, given) if images else None
    if encoded is not None:
        class_names = read_class_names(given, [image.name or "" for image in encoded])
        # what the service gives to the same files, labels and names of classes
        document["images"] = ImageBatchReference(digest=manifest_digest(encoded, class_names)).model_dump()
    elif training is not None:
        encoded, document["images"] = read_labeled_folder(training, access.limits, option="--training")
    validated = None if validation is None else read_labeled_folder(validation, access.limits, option="--validation")
    if validated is not None:
        document["validation"] = validated.reference
    try:
        request = TrainingRequest.model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid request for a training"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error

    progress(None, "loading torch")
    device = chosen_device(device)
    from auditcore.training.local_training import prepare_local_training  # noqa: PLC0415 - loads torch

    progress(None, f"loading the model on {device}")
    rules = access.model_copy(update={"file_roots": (*access.file_roots, folder)})
    with computing(f"the training of {path} cannot be carried out"):
        prepared = prepare_local_training(
            request,
            images=encoded,
            validation=None if validated is None else validated.images,
            access=rules,
            device=device,
        )
        if start is not None:
            prepared.run.resume(start)
        return _train(prepared, weights, report, checkpoint, progress)


def _train(
    prepared: PreparedTraining, weights: Path, report: Path, checkpoint: Path, progress: ShowProgress
) -> Trained | Interrupted:
    """Train until the end, or until Ctrl-C."""
    run = prepared.run
    with noting_ctrl_c() as is_pressed:
        while True:
            due = time.monotonic() + CHECKPOINT_S
            part = run.advance(
                progress=lambda share: progress(share, "training"),
                enough=lambda due=due: is_pressed() or time.monotonic() >= due,  # type: ignore[misc]  # a default argument binds it
            )
            if part.stopped is not None:
                break
            write_result(checkpoint, part.checkpoint)
            if is_pressed():
                return Interrupted(checkpoint, part.step, run.steps)
    trained = prepared.result(str(uuid.uuid4()), stopped=part.stopped)
    write_result(weights, trained.weights)
    write_result(report, canonical_json(trained.report))
    checkpoint.unlink(missing_ok=True)
    return trained


def reference_of(trained: Trained, weights: Path) -> BuiltModel:
    """The trained model as an audit names it that may read this file."""
    from auditcore.training.results import trained_reference  # noqa: PLC0415 - torch is loaded by now

    model = trained.report.request.model
    return trained_reference(model, trained.report.trained.weights, uri=weights.resolve().as_uri())


def show_training(report: TrainingReport, console: Console) -> None:
    """Print how a training went, epoch by epoch, and what it has made."""
    from rich.table import Table  # noqa: PLC0415 - only this command prints it

    table = Table("epoch", "loss", "validation loss", "validation score", box=None, header_style="bold")
    for epoch in report.epochs:
        score = "-" if epoch.validation_score is None else f"{epoch.validation_score:.3f}"
        table.add_row(str(epoch.epoch), f"{epoch.training_loss:.4f}", f"{epoch.validation_loss:.4f}", score)
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
