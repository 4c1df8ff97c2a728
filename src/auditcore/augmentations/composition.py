"""Compositions of two augmentations: one share sets the value of both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.augmentations import AugmentationContract


def value_at(part: AugmentationContract, shares: Float[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Return the values of one augmentation of a composition.

    Args:
        part: One of the two augmentations. If its interval is automatic, its whole bound is used.
        shares: In [-1, 1]. A positive share is the part of the way from the identity to the upper end, a negative one
            to the lower end.

    Returns:
        Values in the augmentation's unit; exactly the identity for a share of 0, and on a side where the interval ends
        at the identity.
    """
    low, high = part.extent
    wide = shares.double()
    ends = torch.where(wide < 0, part.identity - low, high - part.identity)
    return (part.identity + wide * ends).to(shares.dtype)
