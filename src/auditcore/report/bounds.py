"""The range of every metric of a report; confidence intervals stay within it."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.metric import UNBOUNDED, Bounds
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.plan import AuditPlan


def kinds_of(plan: AuditPlan) -> dict[str, str]:
    """Return name -> kind for every check of the plan; `explainer` stands for the explainers' own metrics."""
    return {"explainer": "explainer", **{check.label: check.kind for check in plan.checks}}


def bounds_of(kinds: Mapping[str, str], check: str, metric: str) -> Bounds:
    """Return the lowest and highest value of a metric.

    Args:
        kinds: Result of `kinds_of` for the plan.
        check: Name of the check.
        metric: Name of the metric.
    """
    found = METRICS[kinds[check]][metric]
    return found.lowest, found.highest


def bounds_of_differences(bounds: Bounds) -> Bounds:
    """Return the range of differences of two values of a metric; unbounded unless the metric has both bounds."""
    low, high = bounds
    return UNBOUNDED if low is None or high is None else (low - high, high - low)
