"""CutMix.

Source: Yun et al. 2019, equation 1 and the authors' code.
"""

from __future__ import annotations

from typing import final

import torch

from auditcore.contracts.training.methods.cutmix import CutMix
from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.pasted_boxes import box_around, inside, labels_by_share, random_pixel, sides_for


@final
class CutMixTraining(Method):
    """The cross-entropy of images into which a box of a partner is pasted."""

    def __init__(self, contract: CutMix) -> None:
        self._contract = contract

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mixed batch."""
        height, width = batch.pixels.shape[2:]
        frame, count = (height, width), len(batch)
        # everything is drawn in every step, so that parameters do not move what comes after
        mixed = batch.random.random() < self._contract.probability
        kept = float(batch.random.beta(self._contract.alpha, self._contract.alpha))
        partner = torch.from_numpy(batch.random.permutation(count)).to(batch.pixels.device)
        box = box_around(random_pixel(batch.random, frame), sides_for((1 - kept) * mixed, frame), frame)
        share = box.share(frame)
        pixels = torch.where(inside([box], frame, batch.pixels.device), batch.pixels[partner], batch.pixels)
        shares = torch.full((count,), share, device=batch.pixels.device)
        targets = labels_by_share(batch.targets, batch.targets[partner], shares)
        return Step(network.losses(network.logits(pixels), targets).mean(), {"pasted_share": share})
