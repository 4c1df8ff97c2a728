"""Ablation: what the target's logit loses when a cell of the image is replaced."""

from __future__ import annotations

import torch

from auditcore.contracts.explainers import Ablation
from auditcore.counts.cells import grid_of
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import copies_logits, pairs, target_logits
from auditcore.images.cells import cell_index
from auditcore.models.classifier import Classifier


def incompatibility(classifier: Classifier, contract: Ablation) -> str | None:
    """Why the grid does not fit: it has more cells than pixels along the shorter side."""
    if contract.grid is not None and contract.grid > min(classifier.shape[1:]):
        return (
            f"a grid of {contract.grid} cells along the shorter side does not fit images of {classifier.shape}; use at "
            f"most {min(classifier.shape[1:])}"
        )
    return None


def ablation(batch: Batch, contract: Ablation) -> Attribution:
    """Loss of the target's logit when a cell is replaced; every pixel of the cell gets this value.

    The cells are those of the deletion check, so that deletion with the same grid removes what was explained. It needs
    only predictions.

    Returns:
        Maps (N,1,H,W): f(x) - f(x with the pixel's cell replaced).

    Raises:
        NotApplicable: There are more cells than pixels along the shorter side.

    Source: feature ablation of Kokhlikyan et al. 2020 with square cells; Zeiler & Fergus 2014 without overlap.
    """
    reason = incompatibility(batch.classifier, contract)
    if reason is not None:
        raise NotApplicable(reason)
    pixels = batch.pixels
    height, width = pixels.shape[-2:]
    grid = grid_of(contract.grid, height, width)
    replaced = baseline_pixels(batch, contract.baseline)
    index = cell_index(height, width, grid, pixels.device)
    scores = torch.empty(len(batch), grid.cells, device=pixels.device)
    for images, cell in pairs(len(batch), grid.cells, batch.micro_batch, pixels.device):
        hidden = (index == cell[:, None, None])[:, None]
        copies = torch.where(hidden, replaced[images], pixels[images])
        scores[images, cell] = copies_logits(batch, copies, images)
    losses = target_logits(batch)[:, None] - scores
    return Attribution(losses[:, index.flatten()].view(len(batch), 1, height, width))
