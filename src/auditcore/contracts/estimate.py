"""What a plan will cost, before any model is loaded: waves and passes an image."""

from __future__ import annotations

from typing import Any

from auditcore.contracts.checks import Check, DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import (
    ExplainerContract,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    Random,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave

AUTO_INTERVAL_STEPS = 10
"""Half-widths that an automatic interval tries: tenths of the family's bound."""

BACKWARD_COST = 1.3
"""A backward pass in forward passes; 1.0 to 1.4 on the demo model and resnet50, two cores."""

LRP_COST = {LrpEpsilonPlusFlat: 11, LrpEpsilonGammaBox: 23, LrpEpsilonAlpha2Beta1Flat: 19}
"""One LRP map in forward passes, likewise; zennit runs each layer once per sign case."""

DEFAULT_GRID = 14
"""Cells a side for images of at least 128 pixels."""


def waves_of(plan: AuditPlan) -> tuple[Wave, ...]:
    """The waves an audit needs: `measure` first if an interval is automatic, then `compute`."""
    automatic = any(
        family.interval == "auto" for check in plan.checks if isinstance(check, SweepCheck) for family in check.families
    )
    return ("measure", "compute") if automatic else ("compute",)


def passes_of(plan: AuditPlan, *, wave: Wave | None = None) -> int:
    """Expected cost of one image, in forward passes; of one wave or of the whole audit."""
    if wave is None:
        return sum(passes_of(plan, wave=each) for each in waves_of(plan))
    if wave == "measure":
        return 1 + sum(_measure_passes(check) for check in plan.checks)
    maps = sum(explanation_passes(explainer) for explainer in plan.explainers)
    return round(1 + maps + sum(_check_passes(check, maps, len(plan.explainers)) for check in plan.checks))


def explanation_passes(explainer: ExplainerContract) -> float:
    """Cost of one map, in forward passes."""
    once = 1 + BACKWARD_COST
    match explainer:
        case Random():
            return 0
        case IntegratedGradients():
            return explainer.steps * once + 2
        case SmoothGrad():
            return explainer.samples * once
        case _:
            return LRP_COST.get(_kind(explainer), once)


def _kind(explainer: ExplainerContract) -> Any:  # noqa: ANN401 - a key of LRP_COST or not
    return type(explainer)


def _measure_passes(check: Check) -> int:
    if not isinstance(check, SweepCheck):
        return 0
    return 2 * AUTO_INTERVAL_STEPS * sum(family.interval == "auto" for family in check.families)


def _check_passes(check: Check, maps: float, explainers: int) -> float:
    match check:
        case SweepCheck():
            return len(check.families) * check.levels * (1 + maps)
        case DeletionCheck():
            steps = (check.grid or DEFAULT_GRID) ** 2 - 1
            return 1 + steps * (2 * explainers + check.repeats)
        case EddaCheck():
            return 2 * len(check.keep) * (explainers + 1)
