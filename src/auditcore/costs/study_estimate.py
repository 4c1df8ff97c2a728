"""What a study will cost, before it runs."""

from __future__ import annotations

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.contracts.studies.plan import StudyPlan
from auditcore.contracts.training.class_shares import used_images
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.cost_model import Estimate, ModelSpeed, estimate_of
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.pass_prices import assumed_estimate, sum_estimates
from auditcore.costs.training_estimate import training_passes


def study_estimate(
    plan: StudyPlan, reference: ModelReference, *, training: int, validation: int, test: int, passes_per_s: float
) -> Estimate:
    """What all trainings and audits of a study are expected to cost. The speed of its models is assumed.

    Args:
        plan: The plan.
        reference: The model of methods that name none of their own.
        training: Number of images to learn from, before a method takes its share of them. Shares are taken of each
            class, so that they may differ from this price by rounding.
        validation: Number of validation images.
        test: Number of test images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
    """
    audited = test if plan.audit_images is None else min(test, plan.audit_images)
    models: dict[str, ModelReference] = {}
    for method in plan.methods:
        models[method.name] = models[method.continues] if method.continues is not None else method.model or reference
    trainings = [
        assumed_estimate(
            _training(method.plan, models[method.name], training=training, validation=validation, test=test),
            models[method.name],
            images=training + validation + test,
            passes_per_s=passes_per_s,
        )
        for method in plan.methods
    ]
    audit = estimate_of(
        plan.audit,
        images=audited,
        speeds=[ModelSpeed.assumed(passes_per_s, model, name=name) for name, model in models.items()],
    )
    return sum_estimates([*trainings, audit] * len(plan.seeds), images=training + validation + test)


def _training(plan: TrainingPlan, reference: ModelReference, *, training: int, validation: int, test: int) -> Passes:
    """Passes of a training, after which the test images are predicted."""
    learned = used_images(training, plan.share)
    passes = training_passes(plan, training=learned, validation=validation, shape=input_shape_of(reference))
    return passes.plus(LOGITS.times(test))
