"""Rounding of numbers in reports."""

from __future__ import annotations

import math

SIGNIFICANT_DIGITS = 7
"""float32 has 7.2 significant digits; more would print rounding noise."""

VALUE_DIGITS = 5
"""Digits for the value of one image: passes through a model are reproducible to about 1e-5 between machines, and a
report of 100 images contains 90 000 values. Statistics are computed from the values as printed, so that a reader can
reproduce them."""


def rounded(value: float, digits: int = SIGNIFICANT_DIGITS) -> float:
    """Round a finite number to significant digits."""
    return float(f"{value:.{digits}g}")


def significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float | None:
    """Round a number to significant digits; None for NaN and infinity."""
    return rounded(value, digits) if math.isfinite(value) else None
