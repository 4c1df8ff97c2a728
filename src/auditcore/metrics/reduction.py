"""Reduction of channels: from one value per channel to one per pixel, for comparisons and for the order of pixels."""

from __future__ import annotations

from typing import Literal, assert_never

from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.checks import Reduction
from auditcore.contracts.ranking_orders import RankingOrder


def reduce_channels(
    maps: Float[Tensor, "image channel height width"], how: Reduction | Literal["none"]
) -> Float[Tensor, "image reduced height width"]:
    """Reduce the channels of attributions; signs are kept except by `max_abs`.

    Args:
        maps: Signed attributions.
        how: `sum`, `mean`, `max_abs` (the largest absolute value, never negative) or `none`.

    Returns:
        (N,1,H,W), or the maps themselves for `none`.
    """
    match how:
        case "sum":
            return maps.sum(dim=1, keepdim=True)
        case "mean":
            return maps.mean(dim=1, keepdim=True)
        case "max_abs":
            return maps.abs().amax(dim=1, keepdim=True)
        case "none":
            return maps
        case other:
            assert_never(other)


def ranking_relevance(
    maps: Float[Tensor, "image channel height width"], order: RankingOrder, reduce: Reduction
) -> Float[Tensor, "image height width"]:
    """Compute the relevance by which a check orders pixels, largest first.

    A check of cells averages this relevance over each cell before it orders them. The absolute value is taken before
    the average: in maps made from gradients, the signs of neighboring pixels alternate and cancel in a sum.

    Args:
        maps: Signed attributions.
        order: `signed`: channels are combined by `reduce`, so pixels against the class come last. `magnitude`: the
            largest absolute value over the channels, so signs do not matter.
        reduce: How channels are combined; ignored for `magnitude`.

    Returns:
        Float64, in the maps' unit; never negative for `magnitude`. Sums in float32 would add ties and differences of
        their own.

    Source: `magnitude` is the map of Simonyan et al. 2014, section 3.1: M_ij = max over c of |w_ijc|; `signed` is the
    sum of contributions of Bach et al. 2015. Measurements of both are in docs/ranking.md.
    """
    match order:
        case "signed":
            return reduce_channels(maps.double(), reduce)[:, 0]
        case "magnitude":
            return reduce_channels(maps, "max_abs")[:, 0].double()
        case other:
            assert_never(other)
