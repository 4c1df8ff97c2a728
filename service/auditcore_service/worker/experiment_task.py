"""One experiment, as a computer needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.report import AuditReport
from auditcore.kept_files import KeptFiles
from auditcore.sources.fetching import BlobReader
from auditcore_service.worker.training_task import ImageStorage


@final
@dataclass(frozen=True)
class ExperimentTask:
    """One experiment.

    Attributes:
        id: Of the experiment.
        tenant: Whose it is.
        request: What to do, with resolved models.
        training_images: Number of images to train on, before any is held out.
        validation_images: Number of images that were given for validation; 0 if they are held out.
        test_images: Number of images to test on, or that the failed audit of a remedy has examined.
        failed: The failed report of a remedy; None for other experiments.
        storage: Has the images: those to train on, then those for validation, then the others.
        kept: Files of the experiment, for the stage that is being done.
        blobs: Reads uploaded weights.
    """

    id: str
    tenant: str
    request: ExperimentRequest
    training_images: int
    validation_images: int
    test_images: int
    failed: AuditReport | None
    storage: ImageStorage
    kept: KeptFiles
    blobs: BlobReader
