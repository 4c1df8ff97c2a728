"""From one value a channel to one value a pixel."""

from __future__ import annotations

from typing import Literal, assert_never

from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.checks import Reduction


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
