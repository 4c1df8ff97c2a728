"""Floors: the score of the random control, listed with the score of each explainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditcore.contracts.explainers import CONTROL
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Result


def with_floors(plan: AuditPlan, results: Sequence[Result]) -> list[Result]:
    """Return the results, each with the mean of the random control for the same model, check, metric and sub-case.

    Properties of model and image, control metrics, and the random control itself have no floor.

    Args:
        plan: The full plan.
        results: All results of an audit, including those of the control.
    """
    metrics = {check.label: check.metrics for check in plan.checks}
    random = random_labels(plan)
    floors: Mapping[tuple[str | None, str, str, str | None], float | None] = {
        (one.model, one.check, one.metric, one.variant): one.mean for one in results if one.explainer == random[0]
    }
    return [
        one
        if one.explainer is None
        or one.explainer in random
        or one.check not in metrics
        or metrics[one.check][one.metric].control
        else one.model_copy(update={"floor": floors.get((one.model, one.check, one.metric, one.variant))})
        for one in results
    ]


def random_labels(plan: AuditPlan) -> tuple[str, ...]:
    """Return the names of the random explainers; the first one is the control of all others.

    Args:
        plan: The full plan. If it has none, checks run their own.
    """
    return tuple(one.label for one in plan.explainers if one.is_control) or (CONTROL.label,)
