"""What a measure that retrains will cost, before it runs."""

from __future__ import annotations

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan
from auditcore.contracts.retraining.idsds import IdsdsPlan
from auditcore.contracts.retraining.roar import RoarPlan
from auditcore.costs.cost_model import Estimate
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.pass_prices import assumed_estimate
from auditcore.costs.retraining import f_fidelity_passes, idsds_passes, roar_map_passes, roar_trainings
from auditcore.costs.training_estimate import training_passes


def roar_estimate(
    plan: RoarPlan, model: ModelReference, *, training: int, validation: int, passes_per_s: float
) -> Estimate:
    """What ROAR is expected to cost if all explainers run on the model. Nobody has measured its speed.

    Args:
        plan: The plan.
        model: The model.
        training: Number of images to learn from.
        validation: Number of validation images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
    """
    shape, explained = input_shape_of(model), plan.explained
    one = training_passes(plan.training, training=training, validation=validation, shape=shape)
    maps = roar_map_passes(plan, explained, images=training + validation, shape=shape)
    whole = one.times(roar_trainings(plan)).plus(maps)
    return assumed_estimate(whole, model, images=training + validation, passes_per_s=passes_per_s)


def f_fidelity_estimate(
    plan: FFidelityPlan, model: ModelReference, *, training: int, validation: int, passes_per_s: float
) -> Estimate:
    """What F-Fidelity is expected to cost if all explainers run on the model. Nobody has measured its speed.

    Args:
        plan: The plan.
        model: The model.
        training: Number of images to learn from; none is used without `training` in the plan.
        validation: Number of images to measure on.
        passes_per_s: As of `roar_estimate`.
    """
    measuring = f_fidelity_passes(plan, plan.explained, images=validation, shape=input_shape_of(model))
    return _fine_tuned(plan, measuring, model, training=training, validation=validation, passes_per_s=passes_per_s)


def idsds_estimate(
    plan: IdsdsPlan, model: ModelReference, *, training: int, validation: int, passes_per_s: float
) -> Estimate:
    """What IDSDS is expected to cost if all explainers run on the model; arguments as of `f_fidelity_estimate`."""
    measuring = idsds_passes(plan, plan.explained, images=validation, shape=input_shape_of(model))
    return _fine_tuned(plan, measuring, model, training=training, validation=validation, passes_per_s=passes_per_s)


def _fine_tuned(
    plan: FFidelityPlan | IdsdsPlan,
    measuring: Passes,
    model: ModelReference,
    *,
    training: int,
    validation: int,
    passes_per_s: float,
) -> Estimate:
    if plan.training is None:
        return assumed_estimate(measuring, model, images=validation, passes_per_s=passes_per_s)
    tuning = training_passes(plan.training, training=training, validation=validation, shape=input_shape_of(model))
    return assumed_estimate(measuring.plus(tuning), model, images=training + validation, passes_per_s=passes_per_s)
