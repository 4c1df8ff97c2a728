"""Automatic intervals shared by all models of an audit: the narrowest one, so that results can be compared.

Source: Tetkova & Hansen 2023, figure 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import Check
from auditcore.contracts.plan import AuditPlan

Quantities = Mapping[str, tuple[float, ...]]
"""Key -> values of one model, from its measure wave. For an automatic interval: low end, high end, and 1 if the
probability has dropped there, else 0."""


class SharedInterval(NamedTuple):
    """The automatic interval that all models of an audit share.

    Attributes:
        model: Name of the model with this own interval; None in an audit of one.
        values: Low end, high end, and 1 if that model's probability has dropped there, else 0.
    """

    model: str | None
    values: tuple[float, ...]


def automatic_intervals(plan: AuditPlan) -> Iterator[tuple[Check, Augmentation, str]]:
    """Check, augmentation and key of every interval of a plan that is found by measuring."""
    for check in plan.checks:
        for augmentation, key in check.automatic_intervals:
            yield check, augmentation, key


def narrowest_intervals(plan: AuditPlan, measured: Mapping[str | None, Quantities]) -> dict[str, SharedInterval]:
    """Return the narrowest of the models' own intervals, by key; if several are equal, that of the first model.

    Args:
        plan: The plan.
        measured: Name of a model, None in an audit of one -> its own quantities. A model without an interval is
            ignored: it could not use any image, or the check cannot run on it.

    Returns:
        One entry per automatic interval that any model has.
    """
    found: dict[str, SharedInterval] = {}
    for _, _, key in automatic_intervals(plan):
        own = [SharedInterval(model, quantities[key]) for model, quantities in measured.items() if key in quantities]
        if own:
            found[key] = min(own, key=lambda one: one.values[1] - one.values[0])
    return found


def with_shared_intervals(
    plan: AuditPlan, measured: Mapping[str | None, Quantities]
) -> dict[str | None, dict[str, tuple[float, ...]]]:
    """Return the quantities for the compute wave of each model: its own, and the shared intervals.

    Args:
        plan: The plan.
        measured: Name of a model, None in an audit of one -> its own quantities. All models must have been measured.
    """
    intervals = {key: interval.values for key, interval in narrowest_intervals(plan, measured).items()}
    return {model: {**own, **intervals} for model, own in measured.items()}
