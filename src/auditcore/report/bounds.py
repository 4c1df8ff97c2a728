"""The range of every number of a report, which its interval must stay in."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.metric import UNBOUNDED, Bounds
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.plan import AuditPlan


def kinds_of(plan: AuditPlan) -> dict[str, str]:
    """Name of every check of the plan -> its kind. `explainer` holds what explainers report about themselves."""
    return {"explainer": "explainer", **{check.label: check.kind for check in plan.checks}}


def bounds_of(kinds: Mapping[str, str], check: str, metric: str) -> Bounds:
    """Lowest and highest value of a metric.

    Args:
        kinds: What `kinds_of` says of the plan.
        check: Name of the check.
        metric: Name of the metric.
    """
    found = METRICS[kinds[check]][metric]
    return found.lowest, found.highest


def bounds_of_differences(bounds: Bounds) -> Bounds:
    """Lowest and highest difference of two values of a metric; unbounded unless the metric has both bounds."""
    low, high = bounds
    return UNBOUNDED if low is None or high is None else (low - high, high - low)
