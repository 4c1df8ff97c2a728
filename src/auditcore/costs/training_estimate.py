"""What a training will cost, before it runs."""

from __future__ import annotations

import math

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes, total
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.assumed_estimates import assumed_estimate
from auditcore.costs.cost_model import Estimate
from auditcore.costs.estimate import expected_passes, waves_of
from auditcore.costs.image_size import input_shape_of


def training_passes(plan: TrainingPlan, *, training: int, validation: int, shape: InputShape) -> Passes:
    """Images that go through the model: in all steps, and in validation and small audits after epochs.

    Args:
        plan: The plan.
        training: Number of images to learn from.
        validation: Number of validation images.
        shape: Channels, height and width of the model's input.
    """
    steps = plan.method.passes(shape).times(training * plan.epochs)
    return total((steps, LOGITS.times(validation * plan.epochs), _audit_passes(plan, validation, shape)))


def training_estimate(
    plan: TrainingPlan, reference: ModelReference, *, training: int, validation: int, passes_per_s: float
) -> Estimate:
    """What a training is expected to cost. Nobody has measured its speed, so that is assumed.

    Args:
        plan: The plan.
        reference: The model.
        training: Number of images to learn from.
        validation: Number of validation images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
    """
    passes = training_passes(plan, training=training, validation=validation, shape=input_shape_of(reference))
    return assumed_estimate(passes, reference, images=training + validation, passes_per_s=passes_per_s)


def _audit_passes(plan: TrainingPlan, validation: int, shape: InputShape) -> Passes:
    """Passes of the small audits: after every so many epochs, and after the last one."""
    audit = plan.epoch_audit
    if audit is None:
        return NOTHING
    images = min(audit.images, validation)
    one = total(
        total(expected_passes(audit.plan, wave=wave, images=images, shape=shape).values())
        for wave in waves_of(audit.plan)
    )
    return one.times(math.ceil(plan.epochs / audit.every))
