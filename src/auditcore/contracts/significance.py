"""How many digits a report prints."""

from __future__ import annotations

import math

SIGNIFICANT_DIGITS = 7
"""float32 carries 7.2; more would print rounding noise."""


def rounded(value: float) -> float:
    """A finite number with as many digits as it can mean."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def significant(value: float) -> float | None:
    """The same, or None for NaN and infinity."""
    return rounded(value) if math.isfinite(value) else None
