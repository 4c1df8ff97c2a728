"""Which condition of a failed report fine-tuning can reach, and the policy as the report has judged it. No torch."""

from __future__ import annotations

from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.policy import Condition
from auditcore.contracts.remedies.report import RemediedCondition
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.contracts.training.plan import unfit_for_training
from auditcore.errors import InvalidRequest

MISSED = frozenset({"failed", "warned"})
REACHABLE = "faithfulness"
"""The question that training on explanations answers to; it is not known to change others for the better."""


def condition_to_remedy(report: AuditReport, wanted: str | None) -> RemediedCondition:
    """The condition that a remedy works on.

    Args:
        report: The failed report, of one model.
        wanted: Id of a condition; None for the first that was missed and that training can reach.

    Raises:
        InvalidRequest: There is none, or training cannot reach the wanted one; the message says why.
    """
    if report.models:
        msg = "the report compares several models; remedy one model, from a report on this model only"
        raise InvalidRequest(msg, field="report")
    if wanted is not None and wanted not in {one.id for one in report.conditions}:
        known = ", ".join(dict.fromkeys(one.id for one in report.conditions)) or "none"
        msg = f"the report has no condition {wanted!r}; its conditions are: {known}"
        raise InvalidRequest(msg, field="plan.condition")
    missed = [one for one in report.conditions if one.status in MISSED and wanted in {None, one.id}]
    if not missed:
        which = (
            "no condition of the report" if wanted is None else f"condition {wanted!r} of the report was not, and none"
        )
        msg = f"{which} was missed, so there is nothing to remedy"
        if wanted is not None:
            msg = f"condition {wanted!r} was not missed ({_status(report, wanted)}), so there is nothing to remedy"
        raise InvalidRequest(msg, field="plan.condition")
    reasons = []
    for outcome in missed:
        found = _reachable(report, outcome)
        if isinstance(found, RemediedCondition):
            return found
        reasons.append(f"{outcome.id}: {found}")
    msg = f"training cannot reach what was missed ({'; '.join(dict.fromkeys(reasons))})"
    raise InvalidRequest(msg, field="plan.condition")


def _status(report: AuditReport, wanted: str) -> str:
    return ", ".join(dict.fromkeys(one.status for one in report.conditions if one.id == wanted))


def _reachable(report: AuditReport, outcome: ConditionOutcome) -> RemediedCondition | str:
    """The condition, or why training cannot reach it."""
    check = check_of(report, outcome.check)
    if check is None or check.question != REACHABLE:
        about = "something else" if check is None else check.question
        return f"it is on {about}, and training on explanations changes faithfulness"
    explainer = None if outcome.explainer is None else explainer_of(report, outcome.explainer)
    if explainer is None or outcome.explainer is None:
        return "it concerns no explainer to train with"
    unfit = unfit_for_training(explainer)
    if unfit is not None:
        return unfit
    better = check.metrics[outcome.metric].higher_is_better
    if better is None:
        return f"{outcome.metric} has no better direction"
    return RemediedCondition(
        id=outcome.id,
        check=outcome.check,
        explainer=outcome.explainer,
        metric=outcome.metric,
        variant=outcome.variant,
        higher_is_better=better,
    )


def check_of(report: AuditReport, label: str) -> Check | None:
    """A check of the report's plan by its name."""
    return next((check for check in report.plan.checks if check.label == label), None)


def explainer_of(report: AuditReport, label: str) -> Explainer | None:
    """An explainer of the report's plan by its name."""
    return next((explainer for explainer in report.plan.explainers if explainer.label == label), None)


def policy_of(report: AuditReport) -> tuple[Condition, ...]:
    """The conditions that a report has judged, one for each outcome; a change since a baseline is left out.

    Patterns are written out, so ids are numbered where several outcomes have the same.
    """
    ids = [one.id for one in report.conditions]
    return tuple(
        Condition.model_validate(
            {
                "id": one.id if ids.count(one.id) == 1 else f"{one.id}.{number}",
                "check": one.check,
                "explainer": one.explainer,
                "metric": one.metric,
                "variant": one.variant,
                "statistic": one.statistic,
                "min_images": one.min_images,
                "severity": one.severity,
                one.comparison: one.threshold,
                "on_not_applicable": "skip" if one.status == "skipped" else "inconclusive",
            }
        )
        for number, one in enumerate(report.conditions)
        if one.change is None
    )
