"""What one number of a report means."""

from __future__ import annotations

from typing import Literal, final

from auditcore.contracts.contract import Contract

Variant = Literal["augmentation", "augmentation_mean", "change", "mask", "none"]

Bounds = tuple[float | None, float | None]
"""No value of a metric lies below the first or above the second; None where there is no such bound."""

UNBOUNDED: Bounds = (None, None)


@final
class Metric(Contract):
    """What one metric means.

    Attributes:
        unit: Unit of mean and per-image values.
        higher_is_better: Direction; null where neither is better.
        meaning: One sentence for a reader of the report.
        variants: What its `variant` names: an augmentation, or `mean` over several of them; a part of the changes of a
            structural similarity sweep; a mask (the share of kept pixels, or the threshold above which they are kept);
            or nothing.
        of_explainer: False for properties of model and image, listed with `explainer: null`.
        of_order: Under checks that order pixels or cells, whether it depends on the order; where a check reports both
            orders, others are listed once.
        control: Tells how far the other numbers can be trusted; listed under `controls`.
        lowest: No value of an image lies below; None where there is no such bound.
        highest: No value of an image lies above; None where there is no such bound.
        pooled: Listed with statistics over all single changes of all images too, beside those over images.
        boxed: Listed with the quartiles over images too.
    """

    unit: str
    higher_is_better: bool | None
    meaning: str
    variants: Variant = "none"
    of_explainer: bool = True
    of_order: bool = True
    control: bool = False
    lowest: float | None = None
    highest: float | None = None
    pooled: bool = False
    boxed: bool = False
