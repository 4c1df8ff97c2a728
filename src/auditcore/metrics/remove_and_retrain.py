"""ROAR and KAR: which pixels of an image are removed, and the area under a curve of accuracies.

Pixels are H*W positions, all channels together. The authors' code ranks the channel values of a pixel apart, so that a
pixel may lose its red and keep its blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.removal_curves import imputed_count

FEWEST_POINTS = 2
"""An area has two ends."""


def removed_pixels(
    rank: Int[Tensor, "image pixel"], share: float, measure: Literal["roar", "kar"]
) -> Bool[Tensor, "image pixel"]:
    """Select the pixels that are removed: the floor(share * H * W) most relevant ones, or all but these.

    Args:
        rank: Place of each pixel in the order of relevance, 0 for the most relevant.
        share: Of the pixels, in [0, 1].
        measure: `roar` removes the most relevant pixels, `kar` keeps them.

    Returns:
        True for removed pixels. What `roar` removes is what `kar` keeps.

    Source: Hooker et al. 2019, section 3; the count as in the authors' code.
    """
    most_relevant = rank < imputed_count(share, rank.shape[1])
    return most_relevant if measure == "roar" else ~most_relevant


def without_pixels(
    pixels: Float[Tensor, "image channel height width"],
    removed: Bool[Tensor, "image pixel"],
    color: Float[Tensor, "1 channel 1 1"],
) -> Float[Tensor, "image channel height width"]:
    """Give removed pixels a color.

    Args:
        pixels: Images in pixel space [0,1].
        removed: Which pixels are removed.
        color: What they become, in pixel space.

    Raises:
        ShapeError: The number of pixels is not that of the images.
    """
    images, _, height, width = pixels.shape
    if removed.shape != (images, height * width):
        raise ShapeError(expected=(images, height * width), actual=tuple(removed.shape))
    return torch.where(removed.view(images, 1, height, width), color, pixels)


def accuracy_area(scores: Float[np.ndarray, "repeat share"], shares: Sequence[float]) -> Float[np.ndarray, " repeat"]:
    """Compute the area under each curve of accuracies by the trapezoid rule, divided by the range of the shares.

    Args:
        scores: Accuracy for each share, in [0, 1]; NaN where undefined.
        shares: Ascending.

    Returns:
        In [0, 1], the mean accuracy over the range; NaN if a point is undefined.

    Raises:
        ShapeError: The number of shares is not the number of points, or below two.
    """
    if scores.shape[1] != len(shares) or len(shares) < FEWEST_POINTS:
        raise ShapeError(expected=f"{len(shares)} points, at least {FEWEST_POINTS}", actual=scores.shape)
    area: np.ndarray = np.trapezoid(scores, np.asarray(shares), axis=1) / (shares[-1] - shares[0])
    return area
