"""EDDA: do the most relevant pixels carry the prediction by themselves, and does removing them destroy it?

All functions here are pure functions of probabilities and predictions; the check runs the passes. `kept` is the image
in which only the most relevant pixels remain (x_umask), `removed` the image in which they are masked (x_imask).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.ranking import rank_descending, top_k_mask

SCALED_LEVELS = 2**17
"""Levels of a map scaled to [0, 1]; smaller differences are rounding, and such values count as equal."""


class ThresholdMasks(NamedTuple):
    """Pixels that remain in the two images of a threshold; a pixel at the threshold remains in neither.

    Attributes:
        umask: Pixels above the threshold in the scaled map; the others are unimportant and masked.
        imask: Pixels below the threshold; the others are important and masked.
    """

    umask: Bool[Tensor, "image 1 height width"]
    imask: Bool[Tensor, "image 1 height width"]


def kept_pixels(share: float, height: int, width: int) -> int:
    """Return the number of pixels kept: round(share * H * W), halves to even."""
    # the product of the sides first: 0.15 * 9 * 10 is 13.499999999999998 and would lose a pixel
    return round(share * (height * width))


def keep_mask(
    scores: Float[Tensor, "image height width"], share: float, tie_breakers: Float[Tensor, "..."]
) -> Bool[Tensor, "image 1 height width"]:
    """Select the most relevant share of the pixels: exactly round(share * H * W) of them.

    Args:
        scores: Reduced maps, scaled or not: scaling does not change the order.
        share: Share of pixels, in (0, 1).
        tie_breakers: Random numbers of the same shape; among equal values, those with the larger numbers are kept.

    Returns:
        True for pixels that are kept. A constant map gives a random choice; the check reports such maps as undefined.

    Raises:
        ShapeError: The shape of the tie-breakers is not that of the scores.

    Source: Li et al. 2021.
    """
    (mask,) = keep_masks(scores, (share,), tie_breakers)
    return mask


def keep_masks(
    scores: Float[Tensor, "image height width"], shares: Sequence[float], tie_breakers: Float[Tensor, "..."]
) -> list[Bool[Tensor, "image 1 height width"]]:
    """Select the most relevant pixels for several shares; see `keep_mask`.

    An accelerator sorts the pixels once, the CPU selects them for each share.

    Args:
        scores: Reduced maps.
        shares: Shares of pixels, each in (0, 1).
        tie_breakers: Random numbers of the same shape.

    Raises:
        ShapeError: The shape of the tie-breakers is not that of the scores.

    Source: Li et al. 2021.
    """
    if tie_breakers.shape != scores.shape:
        raise ShapeError(expected=tuple(scores.shape), actual=tuple(tie_breakers.shape))
    counts = [kept_pixels(share, *scores.shape[1:]) for share in shares]
    values, ties = scores.flatten(1), tie_breakers.flatten(1)
    choose = _selected if scores.device.type == "cpu" else _sorted_once
    masks = choose(values, counts, ties)
    return [mask.view_as(scores)[:, None] for mask in masks]


def _selected(
    values: Float[Tensor, "image position"], counts: Sequence[int], ties: Float[Tensor, "image position"]
) -> list[Bool[Tensor, "image position"]]:
    return [top_k_mask(values, count, ties) for count in counts]


def _sorted_once(
    values: Float[Tensor, "image position"], counts: Sequence[int], ties: Float[Tensor, "image position"]
) -> list[Bool[Tensor, "image position"]]:
    """Select from one sort of all positions: on an accelerator, selecting half of them takes as long as sorting."""
    places = rank_descending(values, ties).argsort(dim=1)
    return [places < count for count in counts]


def threshold_masks(maps: Float[Tensor, "image height width"], thresholds: Sequence[float]) -> list[ThresholdMasks]:
    """Compare the relevance of pixels, scaled to [0, 1] by the map's minimum and maximum, with thresholds.

    Args:
        maps: Reduced maps, any sign and scale.
        thresholds: tau, each in [0.001, 0.999].

    Returns:
        One pair of masks per threshold, s > tau and s < tau. A difference below 2^-18 from the threshold is rounding
        and counts as equality. Each image keeps at least one pixel and loses at least one: the largest
        relevance is above every threshold, and the smallest below. Masks of maps that are constant or not finite have
        no meaning; the check reports such maps as undefined.

    Source: Li et al. 2021, equations 3 and 4.
    """
    values = maps.double().flatten(1)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    levels = ((values - low) / (high - low) * SCALED_LEVELS).round().view_as(maps)[:, None]
    cuts = [round(threshold * SCALED_LEVELS) for threshold in thresholds]
    return [ThresholdMasks(levels > cut, levels < cut) for cut in cuts]


def sufficiency(original: Float[Tensor, " image"], kept: Float[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Compute p(x_umask) - p(x), in [-1, 1]; higher means that the kept pixels are sufficient.

    Args:
        original: Target probability of the whole image.
        kept: Target probability with only the most relevant pixels.

    Source: Li et al. 2021.
    """
    return kept - original


def comprehensiveness(original: Float[Tensor, " image"], removed: Float[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Compute p(x) - p(x_imask), in [-1, 1]; higher means that the removed pixels were necessary.

    Args:
        original: Target probability of the whole image.
        removed: Target probability without the most relevant pixels.

    Source: Li et al. 2021.
    """
    return original - removed


def drop_percent(
    original: Float[Tensor, " image"], kept: Float[Tensor, " image"], min_probability: float
) -> Float[Tensor, " image"]:
    """Compute each image's part of the mean relative loss: max(0, p(x) - p(x_umask)) / p(x) * 100.

    Args:
        original: Target probability of the whole image.
        kept: Target probability with only the most relevant pixels.
        min_probability: Smallest p(x) for which a relative change has a meaning.

    Returns:
        Percent in [0, 100]; lower is better. NaN if p(x) is below `min_probability`.

    Source: Li et al. 2021, equation 5.
    """
    return _percent_of(original, (original - kept).clamp(min=0), min_probability)


def increase_percent(
    original: Float[Tensor, " image"], kept: Float[Tensor, " image"], min_probability: float
) -> Float[Tensor, " image"]:
    """Compute each image's part of the mean relative gain: max(0, p(x_umask) - p(x)) / p(x) * 100.

    Args:
        original: Target probability of the whole image.
        kept: Target probability with only the most relevant pixels.
        min_probability: Smallest p(x) for which a relative change has a meaning.

    Returns:
        Percent, at least 0; higher is better. NaN if p(x) is below `min_probability`.

    Source: Li et al. 2021, equation 5.
    """
    return _percent_of(original, (kept - original).clamp(min=0), min_probability)


def agreement(predicted: Bool[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Return 1 if the target is predicted, else 0; the mean is `umask_agreement`.

    Args:
        predicted: Whether the target is predicted for the changed image.

    Source: Li et al. 2021, for models with one class per image: the predicted class is y.
    """
    return predicted.float()


def flip(predicted: Bool[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Return 1 if the target is no longer predicted, else 0; the mean is `imask_flip`.

    Args:
        predicted: Whether the target is predicted for the changed image.

    Source: Li et al. 2021, for models with one class per image: the predicted class is not y.
    """
    return (~predicted).float()


def _percent_of(whole: Tensor, part: Tensor, min_probability: float) -> Tensor:
    return (100 * part / whole).masked_fill(whole.double() < min_probability, torch.nan)
