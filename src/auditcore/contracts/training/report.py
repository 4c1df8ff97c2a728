"""The report of a training: what went in, what came out, and how it went epoch by epoch."""

from __future__ import annotations

from typing import Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.images import Labels
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.shards import Cost, ModelRecord
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import TrainingRequest

TRAINING_SCHEMA_VERSION: Final = "1.0"

Stopped = Literal["completed", "budget"]
"""Why a training ended: all epochs are done, or another one would not have fitted into the budget."""


@final
class EpochMeasurement(Contract):
    """The mean of one metric of the explanations after an epoch.

    Attributes:
        check: Label of the check.
        explainer: Label of the explainer; null for a metric of the model itself.
        metric: Name of the metric.
        variant: Which form of the metric, if there are several.
        mean: Over the validation images for which the metric is defined; null if there are none.
        n: How many these are.
        reason: Why `mean` is null.
        control: Whether it is of a control, such as the random explainer.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None = None
    mean: float | None
    n: int
    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)
    control: bool = Field(default=False, exclude_if=lambda control: not control)


@final
class Epoch(Contract):
    """One epoch.

    Attributes:
        epoch: Its number, from 1.
        learning_rate: At its last step.
        training_loss: Mean of what was minimized, over the steps of the epoch.
        validation_loss: Mean cross-entropy of the validation images with their labels as they are.
        validation_score: In [0, 1]: share of the validation images whose most probable class is their label; for a
            multi-label model the mean average precision over the classes that are true of some image and not of all;
            null if there is no such class.
        method: What the method says of its steps, such as the share of images that it added; by name, mean over the
            steps.
        measurements: The explanations after this epoch, if the plan audits them.
        seconds: How long it took.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    validation_score: float | None
    method: dict[str, float] = Field(default_factory=dict)
    measurements: tuple[EpochMeasurement, ...] = ()
    seconds: float


@final
class LeftOutImage(Contract):
    """An image that could not be used.

    Attributes:
        images: The batch it belongs to.
        index: Its position there, from 0.
        name: Name of its file; null without one.
        label: Its class or classes.
        code: The error.
        reason: What was found.
    """

    images: Literal["training", "validation"]
    index: int
    name: str | None
    label: Labels | None
    code: str
    reason: str


@final
class TrainingData(Contract):
    """The images of a training.

    Attributes:
        training_digest: sha256 over digests and labels of the images that were trained on, in order.
        validation_digest: The same of the validation images.
        training_images: Number of images that were trained on.
        validation_images: Number of validation images.
        training_per_class: Class index -> number of training images with that label.
        left_out: Images that could not be used.
    """

    training_digest: Sha256
    validation_digest: Sha256
    training_images: int
    validation_images: int
    training_per_class: dict[int, int]
    left_out: tuple[LeftOutImage, ...] = ()


@final
class TrainedModel(Contract):
    """The result: a file of weights, and how to name it in an audit.

    Attributes:
        reference: The trained model, as `model` of an audit.
        weights: sha256 of the file of safetensors.
        size_bytes: Its size.
        record: The model as it is loaded from this file.
    """

    reference: ModelReference
    weights: Sha256
    size_bytes: int
    record: ModelRecord


@final
class TrainingReport(Contract):
    """Provenance, curves and cost of a training.

    Attributes:
        training_id: Of the training.
        request: What was asked for, with pinned model and images.
        plan_digest: sha256 of the canonical JSON of the plan.
        start: The model as training began.
        trained: The model as it ended.
        data: The images.
        epochs: How it went.
        stopped: Why it ended.
        cost: Passes and seconds of everything: steps, explanations, validation.
        attempts: How often computing was started; more than 1 after a worker was lost or stopped.
        notes: What a reader should know.
        environment: Software and hardware.
    """

    schema_version: Literal["1.0"] = TRAINING_SCHEMA_VERSION
    training_id: str
    request: TrainingRequest
    plan_digest: Sha256
    start: ModelRecord
    trained: TrainedModel
    data: TrainingData
    epochs: tuple[Epoch, ...]
    stopped: Stopped
    cost: Cost
    attempts: int = 1
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)

    @property
    def plan(self) -> TrainingPlan:
        """The plan that was carried out."""
        return self.request.plan
