"""IDSDS: the sums of a map over patches, and their correlation with the drops of single deletions.

Source: Hesse et al. 2024, section 3, and the authors' code.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.counts.cells import Grid
from auditcore.errors import ShapeError
from auditcore.images.cells import cell_index
from auditcore.metrics.cells import cell_relevance
from auditcore.metrics.constancy import FLOAT_NOISE
from auditcore.metrics.rank_correlation import spearman
from auditcore.metrics.similarity import pearson


def patch_sums(maps: Float[Tensor, "image height width"], grid: Grid) -> Float[Tensor, "image patch"]:
    """Compute the sum of the relevance of the pixels of each patch, float64.

    Args:
        maps: Reduced maps, one value per pixel.
        grid: Rows and columns of patches.

    Raises:
        ShapeError: There are more rows or columns of patches than pixels.
    """
    height, width = maps.shape[1:]
    sizes = cell_index(height, width, grid, maps.device).flatten().bincount(minlength=grid.cells)
    return cell_relevance(maps, grid) * sizes


def single_deletion_score(
    sums: Float[Tensor, "image patch"],
    whole: Float[Tensor, " image"],
    without: Float[Tensor, "..."],
    correlation: Literal["spearman", "pearson"],
) -> Float[Tensor, " image"]:
    """Correlate what a map says of each patch with what the prediction loses without it.

    Drops that differ by less than 1e-6 of the largest score of the image count as equal: this is the rounding of
    float32, and ranks would be made of it.

    Args:
        sums: Relevance of each patch.
        whole: Score of the target on the image.
        without: Score of the target without each patch.
        correlation: Over the patches.

    Returns:
        In [-1, 1], float64; 1 if the map orders the patches (`spearman`) or is proportional (`pearson`). NaN if all
        patches have the same relevance, or none changes the score.

    Raises:
        ShapeError: The shapes differ.

    Source: Hesse et al. 2024, equation 2.
    """
    if without.shape != sums.shape:
        raise ShapeError(expected=tuple(sums.shape), actual=tuple(without.shape))
    scores = torch.cat([whole[:, None], without], dim=1).double()
    step = FLOAT_NOISE * scores.abs().amax(dim=1, keepdim=True)
    drops = ((scores[:, :1] - scores[:, 1:]) / step).round() * step
    shape = (len(sums), 1, 1, sums.shape[1])
    a, b = sums.double().view(shape), drops.nan_to_num(nan=0.0).view(shape)
    if correlation == "spearman":
        return spearman(a, b)
    return pearson(a, b, torch.ones_like(a, dtype=torch.bool))
