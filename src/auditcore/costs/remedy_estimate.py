"""What a remedy will cost, before it runs."""

from __future__ import annotations

from auditcore.contracts.remedies.failed_conditions import condition_to_remedy
from auditcore.contracts.remedies.plan import RemedyPlan
from auditcore.contracts.remedies.search import training_plan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.cost_model import Estimate, ModelSpeed, estimate_of
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.pass_prices import assumed_estimate, sum_estimates
from auditcore.costs.training_estimate import passes_after_epochs, training_estimate


def remedy_estimate(
    plan: RemedyPlan, failed: AuditReport, *, training: int, validation: int, passes_per_s: float
) -> Estimate:
    """What a remedy is expected to cost at most. Its speed is assumed.

    It costs less if fewer epochs than the most are chosen, or if nothing is; and EDDA learns from fewer copies than it
    may where a mask changes the prediction.

    Args:
        plan: What may be tried.
        failed: The report that failed. Its plan is carried out again on as many images.
        training: Number of images to learn from.
        validation: Number of validation images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.

    Raises:
        InvalidRequest: The report has nothing that training can reach.
    """
    condition = condition_to_remedy(failed, plan.condition)
    (model,) = failed.audited_models

    def trained(epochs: int) -> TrainingPlan:
        return training_plan(plan, condition, failed, rate=plan.learning_rates[0], epochs=epochs)

    training_price = training_estimate(
        trained(max(plan.epochs)),
        model.reference,
        training=training,
        validation=validation,
        passes_per_s=passes_per_s,
    )
    # the audited model is measured as after an epoch
    start = passes_after_epochs(trained(1), [1], validation=validation, shape=input_shape_of(model.reference))
    audited = len(failed.images.items)
    audit = estimate_of(
        failed.plan, images=audited, speeds=[ModelSpeed.assumed(passes_per_s, model.reference, model.capabilities)]
    )
    return sum_estimates(
        [
            assumed_estimate(start, model.reference, images=validation, passes_per_s=passes_per_s),
            *[training_price] * (len(plan.learning_rates) + 1),
            audit,
        ],
        images=training + validation + audited,
    )
