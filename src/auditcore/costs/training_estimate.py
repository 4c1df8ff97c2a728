"""What a training will cost, before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes, total
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.cost_model import Estimate
from auditcore.costs.estimate import expected_passes, waves_of
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.pass_prices import assumed_estimate, measured_estimate
from auditcore.costs.training_speed import TrainingSpeed


def training_passes(plan: TrainingPlan, *, training: int, validation: int, shape: InputShape) -> Passes:
    """Images that go through the model: in all steps, and in validation and small audits after epochs.

    Args:
        plan: The plan.
        training: Number of images to learn from.
        validation: Number of validation images.
        shape: Channels, height and width of the model's input.
    """
    steps = math.ceil(training / plan.batch_size) * plan.epochs
    return passes_of_steps(plan, 0, steps, training=training, validation=validation, shape=shape)


def passes_of_steps(
    plan: TrainingPlan, start: int, stop: int, *, training: int, validation: int, shape: InputShape
) -> Passes:
    """Images that go through the model in some steps, and after the epochs that end with one of them.

    Args:
        plan: The plan.
        start: The first step, counted from 0 over all epochs.
        stop: One past the last step.
        training: Number of images to learn from, at least 1.
        validation: Number of validation images.
        shape: Channels, height and width of the model's input.
    """
    per_epoch = math.ceil(training / plan.batch_size)

    def images_before(step: int) -> int:
        epochs, steps = divmod(step, per_epoch)
        return epochs * training + steps * training // per_epoch

    epochs = range(start // per_epoch + 1, stop // per_epoch + 1)
    learned = plan.method.passes(shape).times(images_before(stop) - images_before(start))
    return learned.plus(passes_after_epochs(plan, epochs, validation=validation, shape=shape))


def passes_after_epochs(plan: TrainingPlan, epochs: Sequence[int], *, validation: int, shape: InputShape) -> Passes:
    """Images that go through the model after some epochs, in validation and in small audits.

    Args:
        plan: The plan.
        epochs: Which, counted from 1.
        validation: Number of validation images.
        shape: Channels, height and width of the model's input.
    """
    return LOGITS.times(validation * len(epochs)).plus(_audit_passes(plan, validation, shape, epochs=epochs))


def training_estimate(
    plan: TrainingPlan,
    reference: ModelReference,
    *,
    training: int,
    validation: int,
    passes_per_s: float,
    measured: TrainingSpeed | None = None,
) -> Estimate:
    """What a training is expected to cost: expected passes over the speed that was measured or is assumed.

    Args:
        plan: The plan.
        reference: The model.
        training: Number of images to learn from.
        validation: Number of validation images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
        measured: How fast the model trained on a worker; None if none has trained it yet.
    """
    passes = training_passes(plan, training=training, validation=validation, shape=input_shape_of(reference))
    images = training + validation
    if measured is None:
        return assumed_estimate(passes, reference, images=images, passes_per_s=passes_per_s)
    return measured_estimate(passes, images=images, passes_per_s=measured.passes_per_s, device=measured.device)


def _audit_passes(plan: TrainingPlan, validation: int, shape: InputShape, *, epochs: Sequence[int]) -> Passes:
    """Passes of the small audits after some epochs: after every so many of all, and after the last one."""
    audit = plan.epoch_audit
    if audit is None:
        return NOTHING
    images = min(audit.images, validation)
    one = total(
        total(expected_passes(audit.plan, wave=wave, images=images, shape=shape).values())
        for wave in waves_of(audit.plan)
    )
    return one.times(sum(epoch % audit.every == 0 or epoch == plan.epochs for epoch in epochs))
