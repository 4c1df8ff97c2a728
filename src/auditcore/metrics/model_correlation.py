"""Correlation of two scores over models; numpy, no tensors."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import pearsonr

from auditcore.errors import ShapeError
from auditcore.metrics.statistics import SAME_VALUE

LEAST_MODELS = 3
"""The correlation of two points is always 1 or -1."""


def pearson_over_models(one: Float[np.ndarray, " model"], other: Float[np.ndarray, "..."]) -> float:
    """Compute the Pearson correlation of two scores, one point per model.

    Args:
        one: A score of each model, in any unit, without NaN.
        other: Another score of the same models.

    Returns:
        Correlation in [-1, 1]. NaN (undefined) if either score is the same for all models up to rounding.

    Raises:
        ShapeError: The shapes differ, or there are fewer than three models.

    Source: Won et al. 2025, section 3.5.3 and table 4.
    """
    if one.shape != other.shape:
        raise ShapeError(expected=one.shape, actual=other.shape)
    if len(one) < LEAST_MODELS:
        raise ShapeError(expected=f"{LEAST_MODELS} models or more", actual=one.shape)
    if any(np.ptp(scores) <= SAME_VALUE * np.abs(scores).max() for scores in (one, other)):
        return math.nan
    # rounding may exceed the ends
    return float(np.clip(pearsonr(one, other).statistic, -1, 1))
