"""The trainings of a remedy, which follow from its plan and from the report that failed. No torch."""

from __future__ import annotations

from typing import Literal, final

from auditcore.contracts.checks import Check
from auditcore.contracts.contract import Contract
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.remedies.failed_conditions import check_of, explainer_of
from auditcore.contracts.remedies.plan import RemedyPlan
from auditcore.contracts.remedies.report import RemediedCondition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.optimizers import Adam
from auditcore.contracts.training.plan import EpochAudit, TrainingPlan


@final
class RemedyStart(Contract):
    """How good the audited model is on the validation images; what candidates are compared with.

    Attributes:
        score: Its score; null where undefined.
        value: Its mean of the failed metric; null where undefined.
        forward_images: Images that passed forward to measure this.
        backward_images: Images that passed backward.
    """

    score: float | None
    value: float | None
    forward_images: int
    backward_images: int


def training_plan(
    plan: RemedyPlan, condition: RemediedCondition, failed: AuditReport, *, rate: float, epochs: int
) -> TrainingPlan:
    """One training of the search; a shorter one passes through the same weights as a longer one.

    Args:
        plan: What may be tried.
        condition: What is to be remedied.
        failed: The report that failed.
        rate: Learning rate.
        epochs: Number of epochs.
    """
    explainer = explainer_of(failed, condition.explainer)
    method = (
        Edda.model_validate({"explainer": explainer, "color": _color(_check(condition, failed))})
        if plan.method == "edda"
        else DeletionLoss.model_validate({"explainer": explainer})
    )
    return TrainingPlan(
        seed=plan.seed,
        epochs=epochs,
        batch_size=plan.batch_size,
        optimizer=Adam(learning_rate=rate),
        method=method,
        basic=plan.basic,
        epoch_audit=probe_of(plan, condition, failed),
    )


def probe_of(plan: RemedyPlan, condition: RemediedCondition, failed: AuditReport) -> EpochAudit:
    """The part of the failed plan that the condition is about, on some validation images."""
    probed: AuditPlan = failed.plan.model_copy(
        update={
            "explainers": (explainer_of(failed, condition.explainer),),
            "checks": (_check(condition, failed).model_copy(update={"explainers": None}),),
        }
    )
    return EpochAudit(plan=probed, images=plan.probe_images)


def _color(check: Check) -> Literal["black", "mean"]:
    """The color with which a check fills pixels, so that the model learns from images like those it is judged by."""
    return "black" if "black" in check.fills.values() else "mean"


def _check(condition: RemediedCondition, failed: AuditReport) -> Check:
    check = check_of(failed, condition.check)
    assert check is not None  # noqa: S101 - the condition was found by it
    return check
