"""Complexity of a map: how widely its relevance is spread over the pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gini_index(maps: Float[Tensor, "image height width"]) -> Float[Tensor, " image"]:
    """Compute the Gini index of absolute relevance over the pixels: `sparseness`.

    With c the absolute values in ascending order: sum over k of (2k - n - 1) c_k / (n sum(c)), which equals
    1 - 2 sum over k of c_k / sum(c) * (n - k + 1/2) / n.

    Args:
        maps: One value per pixel, of any sign and scale.

    Returns:
        From 0 (all pixels equal) to 1 - 1/n (all relevance in one of n pixels), float64. NaN (undefined) for maps that
        are zero or not finite.

    Source: Chalasani et al. 2020; Hurley & Rickard 2009.
    """
    ordered = maps.double().abs().flatten(1).sort(dim=1).values
    pixels = ordered.shape[1]
    weights = 2 * torch.arange(1, pixels + 1, dtype=torch.float64, device=maps.device) - pixels - 1
    return (weights * ordered).sum(dim=1) / (pixels * ordered.sum(dim=1))


def entropy(maps: Float[Tensor, "image height width"]) -> Float[Tensor, " image"]:
    """Compute the entropy of the distribution of absolute relevance over the pixels, in nats.

    Args:
        maps: One value per pixel, of any sign and scale.

    Returns:
        From 0 (all relevance in one pixel) to ln(n) (all n pixels equal), float64. NaN (undefined) for maps that are
        zero or not finite.

    Source: Bhatt et al. 2020, Eq. 2.
    """
    absolute = maps.double().abs().flatten(1)
    terms: Tensor = torch.special.entr(absolute / absolute.sum(dim=1, keepdim=True))
    return terms.sum(dim=1)
