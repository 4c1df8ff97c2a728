"""Similarity of two maps: Pearson correlation on a mask."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.comparison import MaskedMaps, correlation


def pearson(
    a: Float[Tensor, "image channel height width"],
    b: Float[Tensor, "..."],
    mask: Bool[Tensor, "..."],
) -> Float[Tensor, " image"]:
    """Compute the Pearson correlation of two maps over the masked pixels, all channels together.

    Args:
        a: One map per image.
        b: The maps to compare with, of the same shape.
        mask: Valid pixels: (N,1,H,W), or (1,1,H,W) for all images.

    Returns:
        Correlations in [-1, 1]. NaN (undefined) if either map is constant on the mask up to rounding, or the mask is
        empty.

    Raises:
        ShapeError: The shapes differ.

    Source: Tetkova & Hansen 2023.
    """
    if b.shape != a.shape:
        raise ShapeError(expected=tuple(a.shape), actual=tuple(b.shape))
    images, _, height, width = a.shape
    if mask.shape not in {(images, 1, height, width), (1, 1, height, width)}:
        raise ShapeError(expected=f"a mask of shape {(images, 1, height, width)}", actual=tuple(mask.shape))
    counted = mask.expand(a.shape).flatten(1)
    return correlation(MaskedMaps(a.flatten(1), counted), MaskedMaps(b.flatten(1), counted))
