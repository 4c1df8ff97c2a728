"""Occlusion: what the target's logit loses when a window of the image is covered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from auditcore.contracts.explainers import Occlusion
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import copies_logits, pairs, target_logits
from auditcore.models.classifier import Classifier

_WINDOWS_A_SIDE = 7
"""An automatic window is a seventh of the side: 32 pixels of 224, as wide as one cell of a last feature map."""


@dataclass(frozen=True)
class Windows:
    """Where the windows lie along one side.

    Attributes:
        window: Side of a window, in pixels.
        stride: Pixels from one window to the next, at most the window.
        side: Side of the image, in pixels.
    """

    window: int
    stride: int
    side: int

    @property
    def count(self) -> int:
        """Windows along one side; the last one reaches the border, or is cut there."""
        return -(-(self.side - self.window) // self.stride) + 1

    def covers(self, device: torch.device) -> Bool[Tensor, "window position"]:
        """Which positions each window covers."""
        start = torch.arange(self.count, device=device)[:, None] * self.stride
        position = torch.arange(self.side, device=device)
        return (position >= start) & (position < start + self.window)


def windows(contract: Occlusion, side: int) -> Windows:
    """The windows a contract asks for on an image of `side` pixels."""
    window = contract.window or max(1, side // _WINDOWS_A_SIDE)
    return Windows(window, contract.stride or max(1, window // 2), side)


def incompatibility(classifier: Classifier, contract: Occlusion) -> str | None:
    """Why there is no value for every pixel: a window larger than the image, or gaps between windows."""
    grid = windows(contract, classifier.size)
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

    Windows begin at the top left, a stride apart; the last one of a row or column is cut at the border where the
    strides do not fit, as in captum. Needs predictions only.

    Returns:
        Maps (N,1,H,W): mean over the covering windows of f(x) - f(x with the window covered).

    Raises:
        NotApplicable: Windows do not fit the image or leave gaps.

    Source: Zeiler & Fergus 2014, Section 4.2.
    """
    reason = incompatibility(batch.classifier, contract)
    if reason is not None:
        raise NotApplicable(reason)
    pixels = batch.pixels
    covered = baseline_pixels(batch, contract.baseline)
    grid = windows(contract, batch.classifier.size)
    covers = grid.covers(pixels.device)
    count = grid.count
    scores = torch.empty(len(batch), count * count, device=pixels.device)
    for images, window in pairs(len(batch), count * count, batch.micro_batch, pixels.device):
        hidden = covers[window // count][:, None, :, None] & covers[window % count][:, None, None, :]
        copies = torch.where(hidden, covered[images], pixels[images])
        scores[images, window] = copies_logits(batch, copies, images)
    losses = (target_logits(batch)[:, None] - scores).double().view(len(batch), count, count)
    # windows are products of rows and columns, and so is the number of them over a pixel
    shares = covers.double() / covers.double().sum(dim=0)
    maps = shares.T @ losses @ shares
    return Attribution(maps[:, None].float())
