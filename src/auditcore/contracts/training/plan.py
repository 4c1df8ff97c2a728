"""Training plans: every parameter of a training except model and data."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import AuditPlan, Seed
from auditcore.contracts.training.basic_augmentation import BasicAugmentation
from auditcore.contracts.training.methods import TrainingMethod
from auditcore.contracts.training.methods.plain import Plain
from auditcore.contracts.training.optimizers import ConstantRate, Optimizer, Schedule, Sgd

MOST_EPOCHS = 10_000


@final
class EpochAudit(Contract):
    """What is measured of the explanations after an epoch, on images of the validation set.

    Attributes:
        plan: Explainers and checks, as in an audit; its means stand in the training report.
        images: How many validation images, counted from the first.
        every: It runs after every so many epochs, and always after the last one.
    """

    plan: AuditPlan
    images: Annotated[int, Field(ge=1, le=1000)] = 32
    every: Annotated[int, Field(ge=1)] = 1


@final
class TrainingPlan(Contract):
    """How to train. All randomness follows from `seed`: the same plan on the same data gives the same weights on a CPU.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Most images in one step. Batches of an epoch differ in size by at most one image, so that none is
            too small for batch normalization.
        optimizer: What changes the weights.
        schedule: How the learning rate changes over the epochs.
        method: What a batch is made into before the model learns from it.
        basic: Flips and crops before the method.
        share: Share of the training images of each class that is used; a smaller share is part of every larger one.
        epoch_audit: What to measure of the explanations after each epoch; nothing if null.
    """

    seed: Seed = 0
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    optimizer: Optimizer = Sgd()
    schedule: Schedule = ConstantRate()
    method: TrainingMethod = Plain()
    basic: BasicAugmentation = BasicAugmentation()
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of a label that is spread evenly over all classes before images are mixed (Szegedy et al. "
        "2016); for a multi-label model, over present and absent.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16 runs passes under autocast; weights, labels and losses stay float32."
    )
    share: float = Field(default=1.0, gt=0, le=1)
    epoch_audit: EpochAudit | None = None

    @model_validator(mode="after")
    def _explainers_follow_the_weights(self) -> TrainingPlan:
        for explainer in self.method.explainers:
            reason = unfit_for_training(explainer)
            if reason is not None:
                msg = f"method {self.method.kind!r} cannot train with explainer {explainer.label!r}: {reason}"
                raise ValueError(msg)
        for explainer in () if self.epoch_audit is None else self.epoch_audit.plan.explainers:
            reason = _foreign_maps(explainer)
            if reason is not None:
                msg = f"the audit after an epoch cannot use explainer {explainer.label!r}: {reason}"
                raise ValueError(msg)
        return self


def unfit_for_training(explainer: Explainer) -> str | None:
    """Why an explainer has no maps of a model whose weights change in every step, and what to take; None if it has."""
    reason = _foreign_maps(explainer)
    if reason is not None:
        return reason
    if explainer.needs_measure_wave:
        return "it first measures all images, which would have to be repeated in every step; take one such as grad_cam"
    return None


def _foreign_maps(explainer: Explainer) -> str | None:
    """Why the maps of an explainer are not of a model that changes, and what to take; None if they are."""
    if not explainer.computes_maps or explainer.server is not None:
        return "its maps are not of the model in training; take one that computes them, such as grad_cam"
    return None
