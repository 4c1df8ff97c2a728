"""Cutout.

Source: DeVries and Taylor 2017, section 3, and the authors' code.
"""

from __future__ import annotations

from typing import final

import torch

from auditcore.contracts.training.methods.cutout import Cutout
from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.pasted_boxes import box_around, inside, random_pixel


@final
class CutoutTraining(Method):
    """The cross-entropy of images with covered squares."""

    def __init__(self, contract: Cutout) -> None:
        self._contract = contract

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the covered batch."""
        height, width = batch.pixels.shape[2:]
        frame = (height, width)
        side = self._contract.side_px or max(1, int(self._contract.side * min(frame)))
        pixels = batch.pixels
        color = network.start.mean if self._contract.color == "mean" else torch.zeros_like(network.start.mean)
        covered = 0.0
        for _ in range(self._contract.squares):
            boxes = [box_around(random_pixel(batch.random, frame), (side, side), frame) for _ in range(len(batch))]
            pixels = torch.where(inside(boxes, frame, pixels.device), color, pixels)
            covered += sum(box.share(frame) for box in boxes) / len(boxes)
        loss = network.losses(network.logits(pixels), batch.targets).mean()
        return Step(loss, {"covered_share": covered})
