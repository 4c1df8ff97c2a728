"""Occlusion: what the target's logit loses when a window of the image is covered."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from auditcore.contracts.explainers import Occlusion
from auditcore.counts.windows import Windows, windows
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import copies_logits, pairs, target_logits
from auditcore.models.classifier import Classifier


def incompatibility(classifier: Classifier, contract: Occlusion) -> str | None:
    """Why some pixels would have no value: a window larger than the image, or gaps between windows."""
    grid = windows(contract.window, contract.stride, classifier.size)
    if grid.window > grid.side:
        return f"a window of {grid.window} pixels does not fit images of {grid.side}; use at most {grid.side}"
    if grid.stride > grid.window:
        return (
            f"windows of {grid.window} pixels every {grid.stride} leave pixels between them without a value; "
            f"use a stride of at most {grid.window}"
        )
    return None


def occlusion(batch: Batch, contract: Occlusion) -> Attribution:
    """Mean loss of the target's logit over the windows that cover a pixel.

    Windows begin at the top left, one stride apart; where the strides do not fit, the last one of a row or column is
    cut at the border, as in captum. It needs only predictions.

    Returns:
        Maps (N,1,H,W): mean over the covering windows of f(x) - f(x with the window covered).

    Raises:
        NotApplicable: A window does not fit the image, or windows leave gaps.

    Source: Zeiler & Fergus 2014, Section 4.2.
    """
    reason = incompatibility(batch.classifier, contract)
    if reason is not None:
        raise NotApplicable(reason)
    pixels = batch.pixels
    covered = baseline_pixels(batch, contract.baseline)
    grid = windows(contract.window, contract.stride, batch.classifier.size)
    covers = covered_positions(grid, pixels.device)
    count = grid.count
    scores = torch.empty(len(batch), count * count, device=pixels.device)
    for images, window in pairs(len(batch), count * count, batch.micro_batch, pixels.device):
        hidden = covers[window // count][:, None, :, None] & covers[window % count][:, None, None, :]
        copies = torch.where(hidden, covered[images], pixels[images])
        scores[images, window] = copies_logits(batch, copies, images)
    losses = (target_logits(batch)[:, None] - scores).double().view(len(batch), count, count)
    # a window is a product of a row and a column, so the number of windows over a pixel is a product too
    shares = covers.double() / covers.double().sum(dim=0)
    maps = shares.T @ losses @ shares
    return Attribution(maps[:, None].float())


def covered_positions(grid: Windows, device: torch.device) -> Bool[Tensor, "window position"]:
    """Which positions along a side each window covers."""
    start = torch.arange(grid.count, device=device)[:, None] * grid.stride
    position = torch.arange(grid.side, device=device)
    return (position >= start) & (position < start + grid.window)
