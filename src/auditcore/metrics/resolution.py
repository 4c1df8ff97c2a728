"""What a map can tell apart: differences of rounding are ties, and ties are ordered by chance."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

RESOLUTION = 2.0**-17
"""Difference of relevance that orders pixels, as a share of the largest absolute value: 64 float32 epsilons."""


def resolved_relevance(maps: Float[Tensor, "image position"]) -> Float[Tensor, "image position"]:
    """Relevance as multiples of what a map resolves, so that pixels that differ by rounding only are tied.

    A map is repeatable to about 1e-7 of its largest value: batches of other sizes, and servers, round otherwise. Where
    interpolation leaves plateaus, as in Grad-CAM, or windows and cells do, as in occlusion, the order inside them would
    then hang on the batch, and with it the score: by 1.7 % on one digit in four. Ties are ordered by the image's own
    stream instead.

    Args:
        maps: Reduced maps, or the relevance of cells.

    Returns:
        Whole numbers in [-2^17, 2^17], of the maps' type: 64 roundings of the largest absolute value make one. Zero for
        a map of zeros.
    """
    unit = maps.abs().amax(dim=1, keepdim=True) * RESOLUTION
    return (maps / unit).round().masked_fill(unit == 0, 0)
