"""Rank correlation of two maps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.similarity import pearson


def average_ranks(values: Float[Tensor, "image position"]) -> Float[Tensor, "image position"]:
    """Compute ranks from 1, ascending, float64; equal values share the mean of their ranks."""
    ordered, order = values.sort(dim=1)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = begins.cumsum(dim=1) - 1
    ranks = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device).expand(values.shape)
    sums = torch.zeros_like(ranks).scatter_add(1, group, ranks)
    counts = torch.zeros_like(ranks).scatter_add(1, group, torch.ones_like(ranks))
    return torch.empty_like(sums).scatter_(1, order, (sums / counts.clamp(min=1)).gather(1, group))


def spearman(a: Float[Tensor, "image channel height width"], b: Float[Tensor, "..."]) -> Float[Tensor, " image"]:
    """Compute the Spearman rank correlation of two maps over all channels and pixels together.

    Args:
        a: One map per image.
        b: The maps to compare with, of the same shape.

    Returns:
        Correlations in [-1, 1], float64. NaN (undefined) if either map is constant up to rounding, or not finite.

    Raises:
        ShapeError: The shapes differ.

    Source: Adebayo et al. 2018.
    """
    if b.shape != a.shape:
        raise ShapeError(expected=tuple(a.shape), actual=tuple(b.shape))
    everywhere = torch.ones_like(a.flatten(1), dtype=torch.bool)
    undefined = is_constant(a.flatten(1), everywhere) | is_constant(b.flatten(1), everywhere)
    ranks = [average_ranks(maps.flatten(1)).view(a.shape) for maps in (a, b)]
    mask = torch.ones_like(a[:, :1], dtype=torch.bool)
    return pearson(ranks[0], ranks[1], mask).masked_fill(undefined, torch.nan)
