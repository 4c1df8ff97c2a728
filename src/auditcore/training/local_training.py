"""One training in this process, without any service: the library's front door."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import torch

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.report import LeftOutImage, Stopped, TrainingReport
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.errors import InputError
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.orchestration.reading_images import read_images
from auditcore.sources.resolving import resolve_model
from auditcore.training.labeled_images import (
    LabeledImages,
    held_out,
    read_labeled,
    require_several_classes,
    share_of,
)
from auditcore.training.results import make_report, trained_reference
from auditcore.training.training_run import TrainingRun
from auditcore.whole_files import write_whole


@final
@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        report: Provenance, curves and cost.
        weights: The file of safetensors.
    """

    report: TrainingReport
    weights: bytes

    def write(self, path: Path) -> BuiltModel:
        """Write the weights to a file; returns the model for an audit that may read this file."""
        write_whole(path, self.weights)
        trained = self.report.trained
        return trained_reference(self.report.request.model, trained.weights, uri=path.resolve().as_uri())


class TrainingSets(NamedTuple):
    """The images of a training.

    Attributes:
        training: To train on.
        validation: To measure on.
        left_out: Images that could not be used.
    """

    training: LabeledImages
    validation: LabeledImages
    left_out: tuple[LeftOutImage, ...]


@final
@dataclass(frozen=True)
class PreparedTraining:
    """A training whose model is loaded and whose images are decoded; in the end it has a result.

    Attributes:
        request: With pinned model.
        run: Its steps, which may go on from a checkpoint.
        start: The model it starts from.
        sets: The images.
    """

    request: TrainingRequest
    run: TrainingRun
    start: Classifier
    sets: TrainingSets

    def result(self, training_id: str, *, stopped: Stopped, attempts: int = 1) -> Trained:
        """The weights of this moment, and the report.

        Args:
            training_id: Of the training.
            stopped: Why it has ended.
            attempts: How often computing was started.
        """
        weights = self.run.weights()
        report = make_report(
            training_id,
            self.request,
            self.run,
            start=self.start,
            training=self.sets.training,
            validation=self.sets.validation,
            left_out=self.sets.left_out,
            weights=weights,
            stopped=stopped,
            attempts=attempts,
        )
        return Trained(report, weights)


def train(
    request: TrainingRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], float] = time.monotonic,
    training_id: str | None = None,
) -> Trained:
    """Train a classifier, and measure its predictions and explanations as it learns.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded validation images to use instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model is trained, such as `cpu` or `cuda:0`.
        progress: Called after each step with the share done, in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        training_id: Name of the training in the report; a random one if None.

    Returns:
        The report and the weights. The model that the request names stays as it is.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
    """
    prepared = prepare_local_training(
        request, images=images, validation=validation, access=access, device=device, clock=clock
    )
    end = prepared.run.advance(progress=progress)
    assert end.stopped is not None  # noqa: S101 - nobody has said that it is enough
    return prepared.result(training_id or str(uuid.uuid4()), stopped=end.stopped)


def prepare_local_training(
    request: TrainingRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.monotonic,
) -> PreparedTraining:
    """Load the model and the images of a training, whose steps may then be taken one part after the other.

    Args:
        request: Model, images and plan.
        images: As in `train`.
        validation: As in `train`.
        access: As in `train`.
        device: As in `train`.
        clock: Seconds, monotonic.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
    """
    access = access or AccessRules()
    require_trainable(request.model)
    request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
    images, validation = read_training_images(request, access, images=images, validation=validation)
    start = load_classifier(request.model, access=access, device=device)
    return prepare_training(request, start, images, validation, access.limits, clock=clock)


def prepare_training(
    request: TrainingRequest,
    start: Classifier,
    images: Sequence[EncodedImage],
    validation: Sequence[EncodedImage] | None,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PreparedTraining:
    """Decode and divide the images of a training.

    Args:
        request: With pinned model.
        start: The model to start from, on its device; it stays as it is.
        images: Encoded training images.
        validation: Encoded validation images; None to hold some of the others out.
        limits: Sizes that are checked before a file is decoded.
        clock: Seconds, monotonic.

    Raises:
        InputError: Images or labels cannot be used, or the model cannot be trained.
    """
    sets = training_sets(request, start, images, validation, limits)
    run = TrainingRun(request, start, sets.training, sets.validation, limits=limits, clock=clock)
    return PreparedTraining(request, run, start, sets)


def read_training_images(
    request: TrainingRequest,
    access: AccessRules,
    *,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
) -> tuple[Sequence[EncodedImage], Sequence[EncodedImage] | None]:
    """The encoded images of a training, read unless they are given; its explainers are checked before.

    Args:
        request: Names them.
        access: What it may reach.
        images: Training images to use instead of those that it names.
        validation: Validation images to use instead of those that it names.

    Returns:
        Training images; and validation images, None if they are held out of the others.

    Raises:
        InputError: Images are not allowed or cannot be read, or a function that makes maps is not allowed.
    """
    check_training_explainers(request.plan, access)
    if images is None:
        access.check_images(request.images)
        images = read_images(request, access)
    if validation is None and not isinstance(request.validation, HeldOut):
        validation = read_other_images(request.validation, request.references, access, field="validation")
    return images, validation


def training_sets(
    request: TrainingRequest,
    start: Classifier,
    images: Sequence[EncodedImage],
    validation: Sequence[EncodedImage] | None,
    limits: Limits,
) -> TrainingSets:
    """Decode and divide the images of a training, and refuse those that nothing can be learned from.

    Args:
        request: Says how images are divided.
        start: The model, which decides on the size of its input and the classes.
        images: Encoded training images.
        validation: Encoded validation images; None to hold some of the others out.
        limits: Sizes that are checked before a file is decoded.

    Raises:
        InputError: Images or labels cannot be used.
    """
    seed = request.plan.seed
    found, left_out = read_labeled(images, use="training", model=start, limits=limits)
    if validation is None:
        share = request.validation.share if isinstance(request.validation, HeldOut) else HeldOut().share
        training, measured = held_out(found, share, seed)
    else:
        training = found
        measured, unusable = read_labeled(validation, use="validation", model=start, limits=limits)
        left_out = (*left_out, *unusable)
    require_several_classes(training)
    return TrainingSets(share_of(training, request.plan.share, seed), measured, left_out)


@final
@dataclass(frozen=True)
class _OtherImages:
    """Other images of a request than those to train on."""

    images: ImagesReference
    references: tuple[tuple[str | None, ModelReference], ...]


def read_other_images(
    reference: ImagesReference,
    models: tuple[tuple[str | None, ModelReference], ...],
    access: AccessRules,
    *,
    field: str,
) -> list[EncodedImage]:
    """Encoded images that are not those to train on.

    Args:
        reference: The images.
        models: Name and reference of the models that will see them.
        access: What may be reached.
        field: The field of the request, for errors.

    Raises:
        InputError: They cannot be read.
    """
    try:
        access.check_images(reference)
        return read_images(_OtherImages(reference, models), access)
    except InputError as error:
        error.field = error.field.replace("images", field, 1)
        raise
