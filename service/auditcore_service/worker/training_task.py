"""One training, as a computer needs to know it, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.images.encoded import EncodedImage
from auditcore.sources.fetching import BlobReader


class ImageStorage(Protocol):
    """Where the images of a training or an experiment are read."""

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices, in this order."""


@final
@dataclass(frozen=True)
class TrainingTask:
    """One training.

    Attributes:
        id: Of the training.
        tenant: Whose it is; models are kept for one tenant.
        request: What to do, with a resolved model.
        training_images: Number of images to train on, before any is held out.
        validation_images: Number of images that were given for validation; 0 if they are held out.
        storage: Has the images: those to train on, then those for validation.
        checkpoint: Reads the newest checkpoint.
        blobs: Reads uploaded weights.
    """

    id: str
    tenant: str
    request: TrainingRequest
    training_images: int
    validation_images: int
    storage: ImageStorage
    checkpoint: Callable[[], bytes]
    blobs: BlobReader


@final
@dataclass(frozen=True)
class TrainedSteps:
    """What a part of a training has given.

    Attributes:
        checkpoint: From which it goes on.
        stop: Number of steps that are done by now.
        ended: Whether there is nothing more to do: all epochs are done, or the budget is used up.
        passes: Expected work of these steps, and of validation and audits after their epochs, in forward passes.
        seconds: Time that it took, without loading the model and the images.
        device: Where it was done.
    """

    checkpoint: bytes
    stop: int
    ended: bool
    passes: float
    seconds: float
    device: str


@final
@dataclass(frozen=True)
class FinishedTraining:
    """What a training has given.

    Attributes:
        report: Provenance, curves and cost.
        weights: A file of safetensors.
    """

    report: TrainingReport
    weights: bytes
