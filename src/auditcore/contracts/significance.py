"""How many digits a report prints."""

from __future__ import annotations

import math

SIGNIFICANT_DIGITS = 7
"""float32 carries 7.2; more would print rounding noise."""

VALUE_DIGITS = 5
"""For the value of one image: passes through a model repeat to about 1e-5 between machines, and a report of 100 images
holds 90 000 of them. Statistics are computed from the values as printed, so that anybody can compute them again."""


def rounded(value: float, digits: int = SIGNIFICANT_DIGITS) -> float:
    """A finite number with as many digits as it can mean."""
    return float(f"{value:.{digits}g}")


def significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float | None:
    """The same, or None for NaN and infinity."""
    return rounded(value, digits) if math.isfinite(value) else None
