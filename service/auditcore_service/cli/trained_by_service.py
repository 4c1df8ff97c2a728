"""The command `train --url`: a training of a service, from the folders here to the weights here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from rich.console import Console

from auditcore.client.curl import CREDENTIALS
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore_service.cli.computing import write_result
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.inputs import read_request
from auditcore_service.cli.labeled_folders import find_labeled_folder
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.progress import follow
from auditcore_service.cli.service_client import connected, upload_files
from auditcore_service.use_cases.annotations import GivenAnnotations


@final
class StillRunning(CommandError):
    """Ctrl-C has ended the waiting, not the training."""


def train_by_service(
    path: Path,
    *,
    images: Sequence[ImageFile],
    annotations: GivenAnnotations | None,
    training: Path | None,
    validation: Path | None,
    url: str,
    token: Callable[[], str] | None,
    weights: Path,
    report: Path,
    console: Console,
) -> TrainingReport:
    """Upload images, submit a training, follow it to its end, and write weights and report.

    Args:
        path: The request file. URIs are those of the service.
        images: Image files to train on; none for those of the request file.
        annotations: What is known of `images`.
        training: Folder of labeled images instead of `images`; None for those.
        validation: Folder of labeled images to validate on; None for those of the request file.
        url: Address of the service.
        token: Credentials for each request; None without.
        weights: Where the weights are written.
        report: Where the report is written.
        console: Where progress is shown.

    Raises:
        CommandError: The service refuses the training or cannot be reached, or the training failed or was cancelled.
        StillRunning: Ctrl-C was pressed while it was followed; the message says how to get at it.
    """
    document = read_request(path)
    # a folder that cannot be used is refused before anything is uploaded
    sets = {
        name: find_labeled_folder(folder, option=f"--{option}")
        for name, option, folder in (("images", "training", training), ("validation", "validation", validation))
        if folder is not None
    }
    with connected(url, token=token) as client:
        if images:
            document["images"] = {"kind": "batch", "digest": upload_files(client, images, annotations)}
        for name, found in sets.items():
            document[name] = {"kind": "batch", "digest": upload_files(client, found.files, found.annotations)}
        training_id = client.submit_training(document).id
        address = f"{url.rstrip('/')}/v1/trainings/{training_id}"
        console.print(f"training {training_id} accepted: {address}", highlight=False, markup=False, soft_wrap=True)
        try:
            follow(lambda told: client.wait_for_training(training_id, on_progress=told), console)
        except KeyboardInterrupt:
            shown = f"{CREDENTIALS} " if token else ""
            message = (
                f"interrupted; the training goes on: its weights will be at {address}/weights; "
                f"stop it with: curl {shown}-X POST {address}/cancel"
            )
            raise StillRunning(message) from None
        written = client.training_report_bytes(training_id)
        found_report = _report(written)
        trained = client.trained_weights(training_id)
    if sha256(trained) != found_report.trained.weights:
        message = f"the weights that arrived are not those of the report; get them again from {address}/weights"
        raise CommandError(message)
    write_result(weights, trained)
    write_result(report, written)
    return found_report


def _report(content: bytes) -> TrainingReport:
    try:
        return TrainingReport.model_validate_json(content)
    except ValueError as error:
        message = f"the service's report cannot be read ({error}); use the version of auditcore that the service has"
        raise CommandError(message) from error


def reference_in_service(report: TrainingReport) -> str:
    """The trained model as an audit of the same service names it, as JSON."""
    return json.dumps(report.trained.reference.model_dump(mode="json"), separators=(",", ":"))
