"""Curves of a prediction while pixels are removed or inserted: pixel flipping, insertion, deletion, ROAD.

Pixels are H*W positions, all channels together. Counts of pixels are exact, never based on quantiles of relevance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.counts.removal_steps import exact
from auditcore.errors import ShapeError
from auditcore.metrics.curves import UNDEFINED_BELOW, trapezoid_auc


def imputed_count(share: float, pixels: int) -> int:
    """Return the number of pixels that ROAD imputes: floor(share * H * W), computed from the share's decimal digits.

    A product of binary numbers would lose a pixel: 0.57 * 100 is 56.99999999999999.

    Source: Rong et al. 2022, the authors' code.
    """
    return math.floor(exact(share) * pixels)


def removal_rank(order: Int[Tensor, "image pixel"]) -> Int[Tensor, "image pixel"]:
    """Return the rank of each pixel in the order of removal: after k removals, the pixels with a rank below k are gone.

    Args:
        order: Pixels in the order of their removal, one permutation per row, from `rank_descending`.

    Returns:
        The inverse permutation, 0 for the first.
    """
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def relative_curve(
    curve: Float[Tensor, "image step"], original: Float[Tensor, " other_image"]
) -> Float[Tensor, "image step"]:
    """Compute the target probability relative to that of the original, clipped at 1: p(x_k) / p(x).

    Args:
        curve: Target probability after each step.
        original: Target probability of the original image.

    Returns:
        Values in [0, 1]; NaN if the original's probability is below 1e-8.

    Raises:
        ShapeError: The number of originals is not the number of curves.

    Source: Tetkova & Hansen 2023 (clipping: definitions 5).
    """
    if len(curve) != len(original):
        raise ShapeError(expected=f"{len(curve)} originals", actual=tuple(original.shape))
    relative = (curve / original[:, None]).clamp(max=1)
    return relative.masked_fill(original.double()[:, None] < UNDEFINED_BELOW, torch.nan)


def pixel_flipping_aoc(relative: Float[Tensor, "image step"], counts: Sequence[int]) -> Float[Tensor, " image"]:
    """Compute the area over the pixel-flipping curve, as a share of the area between 0 and 1.

    Args:
        relative: Relative target probability after each step, the original included, in [0, 1].
        counts: Pixels removed after each step, ascending from 0; the last step may be shorter.

    Returns:
        In [0, 1]; higher means that the most relevant pixels carry the prediction. NaN if the curve is undefined.

    Raises:
        ShapeError: The number of counts is not the number of samples, or there are fewer than two samples.

    Source: Bach et al. 2015; Tetkova & Hansen 2023.
    """
    steps = relative.shape[1]
    if steps != len(counts) or steps < 2:  # noqa: PLR2004 - an area has two ends
        raise ShapeError(expected=f"{len(counts)} samples, at least 2", actual=tuple(relative.shape))
    where = torch.tensor(counts, dtype=torch.float64, device=relative.device)
    area = torch.trapezoid(1 - relative.double(), where, dim=1)
    return (area / (where[-1] - where[0])).to(relative.dtype)


def insertion_deletion_auc(curve: Float[Tensor, "image step"]) -> Float[Tensor, " image"]:
    """Compute the area under the curve of an insertion or deletion game: (sum - first/2 - last/2) / (n - 1).

    Args:
        curve: Target probability after each step, both ends included, in [0, 1].

    Returns:
        In [0, 1]. Every step has the same weight, as in the authors' code, even a last step with fewer pixels.

    Raises:
        ShapeError: Fewer than two samples.

    Source: Petsiuk et al. 2018 (RISE), `evaluation.py`.
    """
    return trapezoid_auc(curve, 1 / max(1, curve.shape[1] - 1))


def road_probability(curve: Float[Tensor, "image share"]) -> Float[Tensor, " image"]:
    """Compute the mean target probability over the imputed shares: `morf_probability` and `lerf_probability`.

    Args:
        curve: Target probability after each imputation, in [0, 1].

    Raises:
        ShapeError: There is no share.

    Source: Rong et al. 2022.
    """
    _require_shares(curve)
    return curve.double().mean(dim=1).to(curve.dtype)


def road_accuracy(predicted: Bool[Tensor, "image share"]) -> Float[Tensor, " image"]:
    """Compute the share of imputations after which the target is still predicted: `morf_accuracy`, `lerf_accuracy`.

    Args:
        predicted: Whether the target is predicted after each imputation.

    Returns:
        In [0, 1]; the mean over images is the mean over shares of the authors' accuracy.

    Raises:
        ShapeError: There is no share.

    Source: Rong et al. 2022.
    """
    _require_shares(predicted)
    return predicted.float().mean(dim=1)


def road_gain(lerf: Float[Tensor, "image share"], morf: Float[Tensor, "image other_share"]) -> Float[Tensor, " image"]:
    """Compute lerf_probability - morf_probability, in [-1, 1]; higher means more faithful.

    Args:
        lerf: Target probability, least relevant pixels imputed first, in [0, 1].
        morf: The same, most relevant first.

    Raises:
        ShapeError: The curves differ in length, or are empty.

    Source: Rong et al. 2022; Bluecher et al. 2024. pytorch-grad-cam's `ROADCombined` is half of it.
    """
    if lerf.shape != morf.shape:
        raise ShapeError(expected=tuple(lerf.shape), actual=tuple(morf.shape))
    return road_probability(lerf) - road_probability(morf)


def _require_shares(curve: Tensor) -> None:
    if curve.shape[1] == 0:
        raise ShapeError(expected="at least one share", actual=tuple(curve.shape))
