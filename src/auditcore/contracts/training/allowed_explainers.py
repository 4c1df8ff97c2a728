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
    try:
        access.check_explainers(plan.method.explainers)
    except UnsafeReference as error:
        error.field = "plan.method"
        raise
    if plan.epoch_audit is None:
        return
    try:
        access.check_explainers(plan.epoch_audit.plan.explainers)
    except UnsafeReference as error:
        error.field = f"plan.epoch_audit.{error.field}"
        raise
