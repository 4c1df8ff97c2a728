"""Constant maps: they have no correlation and no ranking."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FLOAT_NOISE = 1e-6
"""A map whose range is below this share of its largest absolute value counts as constant.

This is eight float32 epsilons. A constant map stays constant to two or three epsilons when it is warped or summed. So a
range this small is rounding and not relevance, at any scale of the map.
"""


def is_constant(
    values: Float[Tensor, "image position"], mask: Bool[Tensor, "image position"]
) -> Bool[Tensor, " image"]:
    """Return whether the masked values of each image are all equal up to rounding, or not all finite.

    Args:
        values: Any values; those outside the mask are ignored.
        mask: Valid positions.

    Returns:
        True for constant rows, for rows without a valid position, and for rows with a NaN or infinite value: none of
        these has a meaningful order.
    """
    highest = values.masked_fill(~mask, -torch.inf).amax(dim=1)
    lowest = values.masked_fill(~mask, torch.inf).amin(dim=1)
    largest = torch.maximum(highest.abs(), lowest.abs())
    # the negation holds for NaN and infinity too; without any position this is not (-inf > inf)
    return ~(highest - lowest > FLOAT_NOISE * largest)
