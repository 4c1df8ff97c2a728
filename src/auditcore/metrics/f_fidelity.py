"""F-Fidelity: how many pixels a copy loses, and which.

Source: Zheng et al. 2025. The authors' code removes each pixel of the explanation with the probability
min(alpha, beta / size). Here a copy loses exactly the expected number of pixels, so that none loses more than
fine-tuning has shown.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.counts.removal_steps import exact
from auditcore.errors import ShapeError
from auditcore.metrics.ranking import top_k_mask


def removal_count(candidates: int, alpha: float, beta: float, pixels: int) -> int:
    """Return how many pixels a copy loses: floor(min(alpha * candidates, beta * pixels)), from the decimal digits.

    Args:
        candidates: Pixels of which some are removed: those of the explanation, or all others.
        alpha: Share of them that is removed.
        beta: Most that is removed, as a share of all pixels.
        pixels: Pixels of the image.
    """
    return math.floor(min(exact(alpha) * candidates, exact(beta) * pixels))


def removed_at_random(
    candidates: Bool[Tensor, "copy pixel"], lottery: Float[Tensor, "..."], count: Int[Tensor, " copy"]
) -> Bool[Tensor, "copy pixel"]:
    """Select so many of the candidates of each copy at random: those with the largest numbers of a lottery.

    Args:
        candidates: Pixels that may be removed.
        lottery: Uniform random numbers. Copies of one image that share them lose pixels that differ only where their
            candidates do.
        count: How many to select in each copy, at most as many as there are candidates.

    Raises:
        ShapeError: The shapes differ, or a copy has fewer candidates.
    """
    if candidates.shape != lottery.shape:
        raise ShapeError(expected=tuple(candidates.shape), actual=tuple(lottery.shape))
    if bool((candidates.sum(dim=1) < count).any()):
        raise ShapeError(expected=f"at least {count.tolist()} candidates", actual=candidates.sum(dim=1).tolist())
    return top_k_mask(lottery.masked_fill(~candidates, -torch.inf), count, lottery)
