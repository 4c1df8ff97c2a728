"""One automatic interval for all models of an audit: the narrowest of theirs, so that all are asked the same question.

Source: Tetkova & Hansen 2023, figure 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import Check
from auditcore.contracts.plan import AuditPlan

Quantities = Mapping[str, tuple[float, ...]]
"""Key -> values of one model, from its measure wave; of an automatic interval its low end, its high end, and 1 if the
probability has dropped there, else 0."""


class SharedInterval(NamedTuple):
    """The automatic interval that all models of an audit share.

    Attributes:
        model: Name of the model whose own interval it is; None in an audit of one.
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
    """The narrowest of the models' own intervals, by key; of equal ones that of the first model.

    Args:
        plan: The plan.
        measured: Name of a model, None in an audit of one -> its own quantities. A model without an interval, because
            it could use no image or the check cannot run on it, has no say.

    Returns:
        One entry for each automatic interval that any model has.
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
    """The quantities with which each model computes: its own, and the intervals that all share.

    Args:
        plan: The plan.
        measured: Name of a model, None in an audit of one -> its own quantities. All models must have been measured.
    """
    intervals = {key: interval.values for key, interval in narrowest_intervals(plan, measured).items()}
    return {model: {**own, **intervals} for model, own in measured.items()}
