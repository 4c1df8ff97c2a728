"""What a condition judges and what it wants, in the words of every summary."""

from __future__ import annotations

from auditcore.contracts.report import ConditionOutcome
from auditcore.report.junit import RELATIONS


def result_name(outcome: ConditionOutcome) -> str:
    """The result that a condition judges, such as `deletion grad_cam inter_model_deletion`."""
    parts = (outcome.model, outcome.check, outcome.explainer, outcome.metric, outcome.variant)
    return " ".join(part for part in parts if part is not None)


def judged_value(outcome: ConditionOutcome) -> tuple[float | None, tuple[float, float] | None]:
    """The value that the condition judges, and its 95 % interval: a mean, or the change since the baseline."""
    if outcome.change is not None:
        return outcome.change.change, outcome.change.ci
    return outcome.observed, outcome.ci


def wanted_text(outcome: ConditionOutcome) -> str:
    """What the condition wants of it, such as `at least 0.8`."""
    return f"{RELATIONS[outcome.comparison]} {outcome.threshold:g}"
