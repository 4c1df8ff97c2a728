"""SaliencyMix.

Source: Uddin et al. 2021, section 3, and the authors' code.
"""

from __future__ import annotations

from typing import final

import torch

from auditcore.contracts.training.methods.saliency_mix import SaliencyMix
from auditcore.training.fine_grained_saliency import most_salient
from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.pasted_boxes import box_around, inside, labels_by_share, sides_for


@final
class SaliencyMixTraining(Method):
    """The cross-entropy of images into which the most salient part of a partner is pasted."""

    def __init__(self, contract: SaliencyMix) -> None:
        self._contract = contract

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mixed batch."""
        height, width = batch.pixels.shape[2:]
        frame, count = (height, width), len(batch)
        # everything is drawn in every step, so that parameters do not move what comes after
        mixed = batch.random.random() < self._contract.probability
        kept = float(batch.random.beta(self._contract.alpha, self._contract.alpha))
        partner = torch.from_numpy(batch.random.permutation(count)).to(batch.pixels.device)
        partners = batch.pixels[partner]
        one_box = self._contract.box == "first_partner"
        peaks = most_salient(partners[:1]) * count if one_box else most_salient(partners)
        sides = sides_for((1 - kept) * mixed, frame)
        boxes = [box_around(peak, sides, frame) for peak in peaks]
        pixels = torch.where(inside(boxes, frame, batch.pixels.device), partners, batch.pixels)
        shares = torch.tensor([box.share(frame) for box in boxes], dtype=torch.float32).to(batch.pixels.device)
        targets = labels_by_share(batch.targets, batch.targets[partner], shares)
        loss = network.losses(network.logits(pixels), targets).mean()
        return Step(loss, {"pasted_share": sum(box.share(frame) for box in boxes) / count})
