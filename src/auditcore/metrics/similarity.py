"""How alike two maps are."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.constancy import is_constant


def pearson(
    a: Float[Tensor, "image channel height width"],
    b: Float[Tensor, "..."],
    mask: Bool[Tensor, "..."],
) -> Float[Tensor, " image"]:
    """Pearson correlation of two maps over the masked pixels, all channels together.

    Args:
        a: One map an image.
        b: The map it is compared with, of the same shape.
        mask: (N,1,H,W), or (1,1,H,W) for all images: pixels that count.

    Returns:
        Correlations in [-1, 1]. NaN (undefined) where either map is constant on the mask but for
        float noise, or the mask is empty.

    Raises:
        ShapeError: The shapes do not fit.

    Source: Tetkova & Hansen 2023.
    """
    if b.shape != a.shape:
        raise ShapeError(expected=tuple(a.shape), actual=tuple(b.shape))
    images, _, height, width = a.shape
    if mask.shape not in {(images, 1, height, width), (1, 1, height, width)}:
        raise ShapeError(expected=f"a mask of shape {(images, 1, height, width)}", actual=tuple(mask.shape))
    counted = mask.expand(a.shape).flatten(1)
    rows = (a.flatten(1), b.flatten(1))
    undefined = is_constant(rows[0], counted) | is_constant(rows[1], counted)
    left, right = (_unit_deviation(row, counted) for row in rows)
    correlation = (left * right).sum(dim=1).clamp(-1, 1)
    return correlation.masked_fill(undefined, torch.nan).to(a.dtype)


def _unit_deviation(values: Tensor, mask: Tensor) -> Tensor:
    """Masked deviations from the mean, of length 1, in float64.

    Scaled by the largest value first, so that squares of tiny gradients do not vanish.
    """
    wide = values.double().masked_fill(~mask, 0)
    wide = wide / wide.abs().amax(dim=1, keepdim=True)
    mean = wide.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
    deviation = (wide - mean).masked_fill(~mask, 0)
    return deviation / deviation.square().sum(dim=1, keepdim=True).sqrt()
