"""One value per image from the values of several explainers; numpy, no tensors."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from auditcore.errors import ShapeError


def average_over_explainers(values: Float[np.ndarray, "explainer image"]) -> Float[np.ndarray, " image"]:
    """Mean over explainers of each image.

    Args:
        values: One line per explainer, at least one; NaN where undefined.

    Returns:
        In the unit of the values. NaN for an image that any explainer has no value for: an average over fewer
        explainers would be another quantity.

    Raises:
        ShapeError: There is no explainer.

    Source: Won et al. 2025, column Average of tables 2, 5 and 6.
    """
    if len(values) == 0:
        raise ShapeError(expected="(explainers, images), one explainer or more", actual=values.shape)
    # sorted, so that the order of the plan changes no digit; NaN stays NaN
    means: Float[np.ndarray, " image"] = np.sort(values, axis=0).mean(axis=0)
    return means


def pooled_standard_error(values: Float[np.ndarray, "explainer image"]) -> float:
    """Standard error of the mean of all values, as if every explainer saw other images.

    Args:
        values: One line per explainer; images with NaN under any explainer are left out.

    Returns:
        Sample standard deviation of all values over the square root of their number; NaN below two values. It is not
        the standard error over images: that one is larger wherever explainers agree on which images are hard.

    Source: Won et al. 2025. The text does not say how the error of the column Average is computed; this formula gives
    every error printed there from the columns of the single explainers, with 2,000 images.
    """
    complete = values[:, ~np.isnan(values).any(axis=0)]
    if complete.size < 2:  # noqa: PLR2004 - a spread has two values
        return math.nan
    return float(complete.std(ddof=1) / math.sqrt(complete.size))
