"""RISE: which pixels are visible when the model is confident."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.explainers import Rise
from auditcore.counts.cells import grid_of
from auditcore.devices.transfer import to_device
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.passes import pairs
from auditcore.models.classifier import Classifier

MASKS_A_DRAW = 256
"""Masks of one stream: enough to fill a micro-batch, few enough to be kept. Streams do not follow micro-batches."""


def incompatibility(classifier: Classifier, contract: Rise) -> str | None:
    """Why the masks do not fit: they have more cells than pixels along the shorter side."""
    if contract.cells > min(classifier.shape[1:]):
        return (
            f"{contract.cells} cells along the shorter side do not fit images of {classifier.shape}; use at most "
            f"{min(classifier.shape[1:])}"
        )
    return None


def rise(batch: Batch, contract: Rise) -> Attribution:
    """Mean of random soft masks, weighted by the target's probability under each.

    A hidden pixel shows the model's mean color: the authors multiply the normalized image by the mask, which blends
    it with that color. Probabilities weight the masks, not logits: a weight must not be negative, and it stands for a
    confidence. Every image has its own masks, from its own streams. It needs only predictions.

    Returns:
        Maps (N,1,H,W), never negative: sum of p(x under mask) * mask / (keep * masks).

    Raises:
        NotApplicable: There are more cells than pixels.

    Source: Petsiuk et al. 2018, Eq. 6; the masks are those of the authors' code.
    """
    reason = incompatibility(batch.classifier, contract)
    if reason is not None:
        raise NotApplicable(reason)
    classifier, pixels = batch.classifier, batch.pixels
    sums = torch.zeros_like(pixels[:, 0], dtype=torch.float64)
    for draw, start in enumerate(range(0, contract.masks, MASKS_A_DRAW)):
        grids, shifts = _draw(batch, contract, draw, min(MASKS_A_DRAW, contract.masks - start))
        for images, mask in pairs(len(batch), grids.shape[1], batch.micro_batch, pixels.device):
            masks = soft_masks(grids[images, mask], shifts[images, mask], *pixels.shape[-2:])
            visible = masks[:, None]
            copies = pixels[images] * visible + classifier.mean * (1 - visible)
            confidence = classifier.target_probability(copies, batch.targets[images])
            sums.index_add_(0, images, confidence.double()[:, None, None] * masks)
    return Attribution((sums[:, None] / (contract.keep * contract.masks)).float())


def soft_masks(
    grids: Float[Tensor, "mask row column"], shifts: Int[Tensor, "mask 2"], height: int, width: int
) -> Float[Tensor, "mask height width"]:
    """Grids, bilinearly upsampled by a cell more than the image and cut out at random.

    Args:
        grids: 1 where a cell stays, 0 where it is hidden.
        shifts: Row and column of the cut's first pixel, below ceil(height / rows) and ceil(width / columns).
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Masks in [0,1]; the mean over grids and shifts of every pixel is that of a cell.
    """
    # upsampling is linear and separable: one matrix for rows and one for columns, of which a cut takes consecutive rows
    down, across = (
        upsampling(cells, side).to(grids.dtype) for cells, side in zip(grids.shape[-2:], (height, width), strict=True)
    )
    rows = shifts[:, :1] + torch.arange(height, device=grids.device)
    columns = shifts[:, 1:] + torch.arange(width, device=grids.device)
    masks: Tensor = to_device(down, grids.device)[rows] @ grids @ to_device(across, grids.device)[columns].mT
    return masks


def upsampling(cells: int, side: int) -> Float[Tensor, "position cell"]:
    """Weights that interpolate bilinearly between cells, along a side that is longer than the image by a cell.

    Args:
        cells: Cells along the side.
        side: Side of the image, in pixels.
    """
    upsampled = (cells + 1) * -(-side // cells)
    # in cells, between their centers; mirrored at the outermost ones, as scikit-image does for the authors
    position = (torch.arange(upsampled, dtype=torch.float64) + 0.5) * cells / upsampled - 0.5
    position = torch.minimum(position.abs(), 2 * (cells - 1) - position)
    distance = (position[:, None] - torch.arange(cells)).abs()
    return (1 - distance).clamp(min=0)


def _draw(
    batch: Batch, contract: Rise, draw: int, count: int
) -> tuple[Float[Tensor, "image mask row column"], Int[Tensor, "image mask 2"]]:
    """Grids and shifts of some consecutive masks of every image."""
    height, width = batch.pixels.shape[-2:]
    grid = grid_of(contract.cells, height, width)
    kept = batch.streams.uniform((count, *grid), "rise/grid", draw) < contract.keep
    # in pixels: less than the height, and the width, of a cell
    cell = torch.tensor([-(-height // grid.rows), -(-width // grid.columns)])
    shifts = (batch.streams.uniform((count, 2), "rise/shift", draw) * cell).long()
    return to_device(kept.float(), batch.pixels.device), to_device(shifts, batch.pixels.device)
