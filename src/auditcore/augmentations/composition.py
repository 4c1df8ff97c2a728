"""One share for two augmentations: which value of each it stands for."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.augmentations import AugmentationContract


def value_at(part: AugmentationContract, shares: Float[Tensor, " image"]) -> Float[Tensor, " image"]:
    """The values of one augmentation of a composition.

    Args:
        part: One of the two augmentations; where its interval is automatic, the whole bound counts.
        shares: In [-1, 1]: above 0 of the way from the identity to the upper end, below 0 to the lower.

    Returns:
        Values in the augmentation's unit; exactly the identity at 0, and on a side on which it has nothing.
    """
    low, high = part.extent
    wide = shares.double()
    ends = torch.where(wide < 0, part.identity - low, high - part.identity)
    return (part.identity + wide * ends).to(shares.dtype)
