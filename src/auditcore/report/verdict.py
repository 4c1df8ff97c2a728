"""From results and a policy to a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.policy import Condition
from auditcore.contracts.report import (
    ConditionDecision,
    ConditionOutcome,
    ReportStatistics,
    Result,
    Stopping,
    Verdict,
)

_MOST_REASONS = 3
"""Reasons that a message repeats; the result lists the reason of every image."""


def evaluate(
    policy: Sequence[Condition],
    results: Sequence[Result],
    models: Sequence[str] = (),
    stopping: Stopping | None = None,
) -> tuple[ConditionOutcome, ...]:
    """What became of every condition; a condition without a value is not applicable, never passed.

    Args:
        policy: The conditions.
        results: What they are judged by.
        models: Names of the models in an audit of several; a condition that names none is judged for each.
        stopping: How a stop rule ended the audit. If it ended early, its decisions count and not the observed means.
    """
    questions = [
        (number, condition, model)
        for number, condition in enumerate(policy)
        for model in ((condition.model,) if condition.model is not None else models or (None,))
    ]
    decisions = [None] * len(questions) if stopping is None else stopping.decisions
    early = stopping is not None and stopping.stopped_early
    return tuple(
        _outcome(number, condition, model, results, decision, early=early)
        for (number, condition, model), decision in zip(questions, decisions, strict=True)
    )


def _outcome(
    number: int,
    condition: Condition,
    model: str | None,
    results: Sequence[Result],
    decision: ConditionDecision | None,
    *,
    early: bool,
) -> ConditionOutcome:
    wanted = (model, condition.check, condition.explainer, condition.metric, condition.variant)
    found = next((r for r in results if (r.model, r.check, r.explainer, r.metric, r.variant) == wanted), None)
    observed = found.mean if found else None
    at_least = condition.at_least is not None
    threshold = condition.at_least if condition.at_least is not None else condition.at_most
    assert threshold is not None  # noqa: S101 - the contract admits exactly one threshold
    if observed is None:
        status, message = "not_applicable", _why_missing(found)
    elif early and decision is not None and decision.decided is not None:
        met = decision.decided == "met"
        status = "passed" if met else f"{condition.severity}ed"
        side = ("at least" if met else "below") if at_least else ("at most" if met else "above")
        message = (
            f"mean of all images is {side} {threshold:g}, decided after {decision.decided_at} images; "
            f"mean of those used {observed:.4g}"
        )
    else:
        met = observed >= threshold if at_least else observed <= threshold
        status = "passed" if met else f"{condition.severity}ed"
        message = f"mean {observed:.4g} is {'at least' if observed >= threshold else 'below'} {threshold:g}"
        if not at_least:
            message = f"mean {observed:.4g} is {'at most' if met else 'above'} {threshold:g}"
    return ConditionOutcome.model_validate(
        {
            "id": condition.id or str(number),
            "model": model,
            "check": condition.check,
            "explainer": condition.explainer,
            "metric": condition.metric,
            "variant": condition.variant,
            "statistic": condition.statistic,
            "comparison": "at_least" if at_least else "at_most",
            "threshold": threshold,
            "observed": observed,
            "ci": found.ci if found else None,
            "anytime_ci": None if decision is None else decision.interval,
            "status": status,
            "message": message,
        }
    )


def _why_missing(result: Result | None) -> str:
    reasons = sorted(set(result.reasons.values())) if result else []
    if not reasons:
        return "no image has a value"
    # a reason may name an image's classes, and there may be thousands of images
    more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return f"no image has a value: {'; '.join(reasons[:_MOST_REASONS])}{more}"


def count(outcomes: Sequence[ConditionOutcome]) -> ReportStatistics:
    """How many conditions ended how."""
    by_status = [outcome.status for outcome in outcomes]
    return ReportStatistics(
        evaluated=len(by_status),
        passed=by_status.count("passed"),
        warned=by_status.count("warned"),
        failed=by_status.count("failed"),
        not_applicable=by_status.count("not_applicable"),
    )


def verdict(statistics: ReportStatistics) -> Verdict:
    """The worst outcome decides; a condition nobody could evaluate leaves the audit inconclusive."""
    if statistics.evaluated == 0:
        return "not_evaluated"
    if statistics.failed:
        return "fail"
    if statistics.not_applicable:
        return "inconclusive"
    return "warn" if statistics.warned else "pass"
