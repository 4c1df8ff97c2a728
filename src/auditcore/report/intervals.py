"""Automatic intervals as measured, with a sentence for the reader."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.automatic_intervals import Quantities, automatic_intervals, narrowest_intervals
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import CalibratedInterval


def calibrated_intervals(plan: AuditPlan, measured: Mapping[str | None, Quantities]) -> tuple[CalibratedInterval, ...]:
    """Return one entry per model and automatic interval that was measured on it, model by model.

    Args:
        plan: The plan.
        measured: Name of a model, None in an audit of one -> result of `reduce_shared` for its own measure wave.
    """
    shared = narrowest_intervals(plan, measured)
    calibrated = []
    for model, quantities in measured.items():
        for check, augmentation, key in automatic_intervals(plan):
            if key not in quantities:
                continue
            low, high, reached = quantities[key]
            used = shared[key]
            calibrated.append(
                CalibratedInterval(
                    model=model,
                    check=check.label,
                    augmentation=augmentation.label,
                    interval=(used.values[0], used.values[1]),
                    own_interval=None if model is None else (low, high),
                    set_by=used.model,
                    reached=bool(reached),
                    message=_message(model, used.model, (low, high), reached=bool(reached)),
                )
            )
    return tuple(calibrated)


def _message(model: str | None, set_by: str | None, own: tuple[float, float], *, reached: bool) -> str:
    if model is None or model == set_by:
        own_drop = (
            "the mean target probability has dropped by 10 % at one end"
            if reached
            else "the mean target probability never dropped by 10 %, so the whole bound is used"
        )
        return own_drop if model is None else f"narrowest of all models: {own_drop}"
    where = (
        f"has dropped by 10 % at one end of [{own[0]:.4g}, {own[1]:.4g}]"
        if reached
        else f"never dropped by 10 % on the whole bound [{own[0]:.4g}, {own[1]:.4g}]"
    )
    return f"narrowest: model {set_by}; the mean target probability of this model {where}"
