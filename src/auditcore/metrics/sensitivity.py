"""Sensitivity of a map to small changes of its image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError


def relative_distance(
    original: Float[Tensor, "copy channel height width"], changed: Float[Tensor, "..."]
) -> Float[Tensor, " copy"]:
    """Compute ||a(x+d) - a(x)||_2 / ||a(x)||_2 over all channels and pixels together.

    Args:
        original: Signed maps of the unchanged images.
        changed: Maps of their noisy copies, of the same shape.

    Returns:
        Distances, at least 0, float64. NaN (undefined) if the original map is zero or either is not finite. For a zero
        map, captum divides the distance by 1 instead, and Quantus returns infinity.

    Raises:
        ShapeError: The shapes differ.

    Source: Yeh et al. 2019, divided by the map's length as in captum.
    """
    if changed.shape != original.shape:
        raise ShapeError(expected=tuple(original.shape), actual=tuple(changed.shape))
    before = original.double().flatten(1)
    moved = torch.linalg.vector_norm(changed.double().flatten(1) - before, dim=1)
    distance: Tensor = moved / torch.linalg.vector_norm(before, dim=1)
    return distance.masked_fill(~distance.isfinite(), torch.nan)


def max_sensitivity(distances: Float[Tensor, "image draw"]) -> Float[Tensor, " image"]:
    """Return the largest relative distance over the draws of noise.

    Args:
        distances: One per image and draw, from `relative_distance`; if one is NaN, the result is NaN.

    Raises:
        ShapeError: There is no draw.

    Source: Yeh et al. 2019, Eq. 5.
    """
    if distances.shape[1] == 0:
        raise ShapeError(expected="at least one draw", actual=tuple(distances.shape))
    return distances.amax(dim=1)
