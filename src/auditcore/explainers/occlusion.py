"""Occlusion: what the target's logit loses when a window of the image is covered."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from auditcore.contracts.explainers import Occlusion
from auditcore.counts.windows import WindowsAlong, windows
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import copies_logits, pairs, target_logits
from auditcore.models.classifier import Classifier


def incompatibility(classifier: Classifier, contract: Occlusion) -> str | None:
    """Why some pixels would have no value: a window larger than the image, or gaps between windows."""
    _, height, width = classifier.shape
    shorter = min(height, width)
    along = windows(contract.window, contract.stride, height, width).rows
    if along.window > shorter:
        return f"a window of {along.window} pixels does not fit images of {classifier.shape}; use at most {shorter}"
    if along.stride > along.window:
        return (
            f"windows of {along.window} pixels every {along.stride} leave pixels between them without a value; "
            f"use a stride of at most {along.window}"
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
    grid = windows(contract.window, contract.stride, *pixels.shape[-2:])
    rows, columns = (covered_positions(along, pixels.device) for along in (grid.rows, grid.columns))
    scores = torch.empty(len(batch), grid.count, device=pixels.device)
    for images, window in pairs(len(batch), grid.count, batch.micro_batch, pixels.device):
        row, column = window // grid.columns.count, window % grid.columns.count
        hidden = rows[row][:, None, :, None] & columns[column][:, None, None, :]
        copies = torch.where(hidden, covered[images], pixels[images])
        scores[images, window] = copies_logits(batch, copies, images)
    losses = (target_logits(batch)[:, None] - scores).double().view(len(batch), len(rows), len(columns))
    # a window is a product of a row and a column, so the number of windows over a pixel is a product too
    down, across = (covers.double() / covers.double().sum(dim=0) for covers in (rows, columns))
    maps = down.T @ losses @ across
    return Attribution(maps[:, None].float())


def covered_positions(along: WindowsAlong, device: torch.device) -> Bool[Tensor, "window position"]:
    """Which positions along a side each window covers."""
    start = torch.arange(along.count, device=device)[:, None] * along.stride
    position = torch.arange(along.side, device=device)
    return (position >= start) & (position < start + along.window)
