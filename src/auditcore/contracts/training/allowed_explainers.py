"""Whether an operator allows the explainers of a training."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.errors import UnsafeReference


def check_training_explainers(plan: TrainingPlan, access: AccessRules) -> None:
    """Refuse functions that the operator has not allowed, in the method and in the audits after epochs.

    Raises:
        UnsafeReference: `access` does not list a function; the field names the part of the plan.
    """
    audited = () if plan.epoch_audit is None else plan.epoch_audit.plan.explainers
    for before, after, explainers in (
        # the first of a method is its own, the others are those of what it is combined with
        ("plan.explainers.0", "plan.method.explainer", plan.method.explainers),
        ("plan.explainers", "plan.epoch_audit.plan.explainers", audited),
    ):
        try:
            access.check_explainers(explainers)
        except UnsafeReference as error:
            error.field = error.field.replace(before, after, 1)
            raise
