"""Averages over explainers, one per image; numpy, no tensors."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from auditcore.errors import ShapeError


def average_over_explainers(values: Float[np.ndarray, "explainer image"]) -> Float[np.ndarray, " image"]:
    """Compute the mean over explainers for each image.

    Args:
        values: One row per explainer, at least one; NaN where undefined.

    Returns:
        Means in the unit of the values. NaN for an image without a value of any one explainer: an average over fewer
        explainers would be a different quantity.

    Raises:
        ShapeError: There is no explainer.

    Source: Won et al. 2025, column Average of tables 2, 5 and 6.
    """
    if len(values) == 0:
        raise ShapeError(expected="(explainers, images), one explainer or more", actual=values.shape)
    # sorted, so that the order of explainers in the plan does not change the rounding; NaN stays NaN
    means: Float[np.ndarray, " image"] = np.sort(values, axis=0).mean(axis=0)
    return means


def pooled_standard_error(values: Float[np.ndarray, "explainer image"]) -> float:
    """Compute the standard error of the mean of all values, as if every explainer had different images.

    Args:
        values: One row per explainer; images with NaN for any explainer are excluded.

    Returns:
        Sample standard deviation of all values over the square root of their number; NaN below two values. This is not
        the standard error over images, which is larger if explainers agree on which images are hard.

    Source: Won et al. 2025. The paper does not say how the error of the column Average is computed. This formula
    reproduces every error printed there from the columns of the explainers, with 2,000 images.
    """
    complete = values[:, ~np.isnan(values).any(axis=0)]
    if complete.size < 2:  # noqa: PLR2004 - a spread has two values
        return math.nan
    return float(complete.std(ddof=1) / math.sqrt(complete.size))
