"""Paired test of two means over the same images; numpy, no tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import ttest_rel

from auditcore.errors import ShapeError
from auditcore.metrics.statistics import SAME_VALUE

LEAST_PAIRS = 2
"""One difference has no spread."""


class PairedTest(NamedTuple):
    """Result of a paired test.

    Attributes:
        t: Mean difference over its standard error; NaN where undefined.
        p_value: Two-sided, in [0, 1]; NaN where undefined.
    """

    t: float
    p_value: float


def paired_t_test(one: Float[np.ndarray, " image"], other: Float[np.ndarray, "..."]) -> PairedTest:
    """Run Student's two-sided t-test of the differences `one - other`, paired by image.

    Args:
        one: A value per image, without NaN.
        other: Values of the same images, without NaN.

    Returns:
        NaN (undefined) if all differences are equal up to rounding: without spread there is no standard error.

    Raises:
        ShapeError: The shapes differ, or there are fewer than two images.

    Source: Student 1908, "The probable error of a mean"; scipy.stats.ttest_rel.
    """
    if one.shape != other.shape:
        raise ShapeError(expected=one.shape, actual=other.shape)
    if len(one) < LEAST_PAIRS:
        raise ShapeError(expected="two images or more", actual=one.shape)
    differences = one - other
    noise = SAME_VALUE * max(np.abs(one).max(), np.abs(other).max())
    if np.ptp(differences) <= noise:
        return PairedTest(math.nan, math.nan)
    found = ttest_rel(one, other)
    return PairedTest(float(found.statistic), float(found.pvalue))
