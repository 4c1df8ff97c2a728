"""Areas under curves, and the scores of sweeps and deletion checks that are based on them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError

UNDEFINED_BELOW = 1e-8
"""A denominator below this makes a ratio undefined (definitions, notation)."""


def trapezoid_auc(curve: Float[Tensor, "*batch step"], dx: float) -> Float[Tensor, "*batch"]:
    """Compute the area under equidistant samples by the trapezoid rule.

    Args:
        curve: Samples, at least two; if one is NaN, the area is NaN.
        dx: Distance between samples.

    Raises:
        ShapeError: Fewer than two samples.
    """
    _require_steps(curve)
    return torch.trapezoid(curve.double(), dx=dx, dim=-1).to(curve.dtype)


def anchored_area(
    curve: Float[Tensor, "image level"],
    x: Float[Tensor, "..."],
    identity_index: int,
    anchor: Literal["identity", "max"],
) -> Float[Tensor, " image"]:
    """Compute the curve score A(c): the mean height of a curve that is shifted so that its anchor is 1.

    Args:
        curve: One curve per image over the levels of a sweep.
        x: (level) ascending values of the levels; they need not be equidistant, as the identity may be inserted.
        identity_index: Level of the unchanged image.
        anchor: The value that is shifted to 1: that at the identity (paper) or the highest one (published code).

    Returns:
        Area over [x_first, x_last], divided by its length. At most 1 for `max`; for `identity`, above 1 if changed
        copies score higher than the original. NaN if any level is undefined.

    Raises:
        ShapeError: The number of x is not the number of levels, there are fewer than two levels, or the identity is not
            one of them.

    Source: Tetkova & Hansen 2023.
    """
    _require_steps(curve)
    levels = curve.shape[1]
    if x.shape != (levels,):
        raise ShapeError(expected=f"{levels} values of x", actual=tuple(x.shape))
    if not 0 <= identity_index < levels:
        raise ShapeError(expected=f"an identity among {levels} levels", actual=identity_index)
    heights = curve.double()
    top = heights[:, identity_index] if anchor == "identity" else heights.amax(dim=1)
    where = x.to(heights)
    area = torch.trapezoid(heights + 1 - top[:, None], where, dim=1)
    return (area / (where[-1] - where[0])).to(curve.dtype)


def stability_ratio(
    explanation: Float[Tensor, " image"], probability: Float[Tensor, " image"]
) -> Float[Tensor, " image"]:
    """Compute the curve score of an explanation relative to that of the prediction: `s_pearson`, `s_top_k`.

    Args:
        explanation: Curve score of correlation or overlap.
        probability: Curve score of the target probability.

    Returns:
        Ratios; below 1 the explanation is less stable than the prediction. NaN if the denominator is below 1e-8 or
        either score is undefined.

    Source: Tetkova & Hansen 2023.
    """
    return (explanation / probability).masked_fill(probability < UNDEFINED_BELOW, torch.nan)


def deletion_auc(curve: Float[Tensor, "*batch step"]) -> Float[Tensor, "*batch"]:
    """Compute the area under a deletion curve of G + 1 samples, dx = 1/G: `lerf_auc` and `morf_auc`.

    Args:
        curve: Target probability after 0..G deletions, in [0, 1].

    Returns:
        Mean probability along the curve, in [0, 1].

    Raises:
        ShapeError: Fewer than two samples.

    Source: Won et al. 2025.
    """
    _require_steps(curve)
    return trapezoid_auc(curve, 1 / (curve.shape[-1] - 1))


def rao_auc(rao: Float[Tensor, "image repeat step"]) -> Float[Tensor, " image"]:
    """Compute the mean area under the random-order deletion curves of each image.

    Args:
        rao: Target probability after 0..G deletions, for every random order.

    Returns:
        Mean over repeats, in [0, 1].

    Raises:
        ShapeError: A curve has fewer than two samples, or there is no repeat.

    Source: Won et al. 2025.
    """
    if rao.shape[1] == 0:
        raise ShapeError(expected="at least one random order", actual=tuple(rao.shape))
    return deletion_auc(rao).mean(dim=1)


def inter_model_deletion(
    lerf: Float[Tensor, "image step"], rao: Float[Tensor, "image repeat other_step"]
) -> Float[Tensor, " image"]:
    """Compute the area between the least-relevant-first and the random-order deletion curves.

    Args:
        lerf: Target probability after 0..G deletions, in [0, 1].
        rao: The same for random orders, which are shared by all explainers and models.

    Returns:
        lerf_auc - rao_auc per image, in [-1, 1]; higher means more faithful.

    Raises:
        ShapeError: The curves differ in length.

    Source: Won et al. 2025, Eq. 11; the paper prints it times 100.
    """
    if lerf.shape[-1] != rao.shape[-1]:
        raise ShapeError(expected=f"{lerf.shape[-1]} steps in random order too", actual=tuple(rao.shape))
    return deletion_auc(lerf) - rao_auc(rao)


def symmetric_relevance_gain(
    lerf: Float[Tensor, "image step"], morf: Float[Tensor, "image other_step"]
) -> Float[Tensor, " image"]:
    """Compute the area between the least- and the most-relevant-first deletion curves.

    Args:
        lerf: Target probability after 0..G deletions, least relevant first, in [0, 1].
        morf: The same, most relevant first.

    Returns:
        lerf_auc - morf_auc per image, in [-1, 1]; higher means more faithful.

    Raises:
        ShapeError: The curves differ in length.

    Source: Bluecher et al. 2024 (SRG).
    """
    if lerf.shape[-1] != morf.shape[-1]:
        raise ShapeError(expected=f"{lerf.shape[-1]} steps in both orders", actual=tuple(morf.shape))
    return deletion_auc(lerf) - deletion_auc(morf)


def _require_steps(curve: Tensor) -> None:
    if curve.shape[-1] < 2:  # noqa: PLR2004 - an area has two ends
        raise ShapeError(expected="a curve of at least 2 samples", actual=tuple(curve.shape))
