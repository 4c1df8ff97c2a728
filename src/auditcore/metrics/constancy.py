"""Whether a map says anything at all: a constant one has no correlation and no ranking."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FLOAT_NOISE = 1e-6
"""A map whose range is below this share of its largest absolute value counts as constant.

Eight float32 epsilons. Warping or summing a constant map leaves it constant to two or three; a
range this small therefore holds rounding, not relevance, whatever the map's scale.
"""


def is_constant(
    values: Float[Tensor, "image position"], mask: Bool[Tensor, "image position"]
) -> Bool[Tensor, " image"]:
    """Whether the masked values of an image are all the same but for rounding, or not all finite.

    Args:
        values: Any values; those outside the mask play no role.
        mask: Positions that count.

    Returns:
        True for constant rows, for rows without any position, and for rows with a NaN or infinite value: none of
        them has an order that means anything.
    """
    highest = values.masked_fill(~mask, -torch.inf).amax(dim=1)
    lowest = values.masked_fill(~mask, torch.inf).amin(dim=1)
    largest = torch.maximum(highest.abs(), lowest.abs())
    # the negation holds for NaN and infinity too; without any position this is not (-inf > inf)
    return ~(highest - lowest > FLOAT_NOISE * largest)
