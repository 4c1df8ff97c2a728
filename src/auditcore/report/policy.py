"""The policy of a report: what it is called, and its conditions as the outcomes show them."""

from __future__ import annotations

from auditcore.contracts.policy import Condition, OnNotApplicable
from auditcore.contracts.policy_document import PolicyDocument, RequestedPolicy
from auditcore.contracts.report import AuditReport, ConditionOutcome, ReportPolicy


def policy_of(policy: RequestedPolicy) -> ReportPolicy | None:
    """Name, version and digest of a policy; None for conditions without a name."""
    if not isinstance(policy, PolicyDocument):
        return None
    return ReportPolicy(name=policy.name, version=policy.version, digest=policy.digest)


def conditions_of(report: AuditReport) -> tuple[Condition, ...]:
    """The conditions of a report's own policy, one for each outcome. A pattern has become the names that it matched."""
    return tuple(_condition(outcome) for outcome in report.conditions)


def _condition(outcome: ConditionOutcome) -> Condition:
    return Condition.model_validate(
        {
            "id": outcome.id,
            "model": outcome.model,
            "check": outcome.check,
            "explainer": outcome.explainer,
            "metric": outcome.metric,
            "variant": outcome.variant,
            "statistic": outcome.statistic,
            "min_images": outcome.min_images,
            "severity": outcome.severity,
            "on_not_applicable": _on_not_applicable(outcome),
            outcome.comparison: outcome.threshold,
        }
    )


def _on_not_applicable(outcome: ConditionOutcome) -> OnNotApplicable:
    """What the condition asked for without a value; where there is a value, it makes no difference."""
    if outcome.observed is not None:
        return "inconclusive"
    match outcome.status:
        case "skipped":
            return "skip"
        case "failed":
            return "fail"
        case "warned":
            return "warn"
        case _:
            return "inconclusive"
