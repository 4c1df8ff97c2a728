"""What automatic intervals came to, in words."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.checks import SweepCheck, interval_key
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import CalibratedInterval


def calibrated_intervals(
    plan: AuditPlan, shared: Mapping[str, tuple[float, ...]], *, model: str | None = None
) -> tuple[CalibratedInterval, ...]:
    """One entry an automatic interval of the plan that was measured on a model.

    Args:
        plan: The plan.
        shared: What `reduce_shared` made of the model's measure wave.
        model: Its name in an audit of several.
    """
    told = []
    for check in plan.checks:
        if not isinstance(check, SweepCheck):
            continue
        for family in check.families:
            found = shared.get(interval_key(check, family))
            if found is None:
                continue
            low, high, reached = found
            told.append(
                CalibratedInterval(
                    model=model,
                    check=check.label,
                    family=family.label,
                    interval=(low, high),
                    reached=bool(reached),
                    message="the mean target probability has dropped by 10 % at one end"
                    if reached
                    else "the mean target probability never dropped by 10 %, so the whole bound is used",
                )
            )
    return tuple(told)
