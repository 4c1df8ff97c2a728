"""Mixup, whole and dissected.

Source: Zhang et al. 2018, equation 2 and the authors' code: one share per batch, and partners by a permutation of the
batch. Dissected after Won et al. 2025, section 4.1.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.training.methods.mixup import Mixup
from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.network import Network


@final
class MixupTraining(Method):
    """The cross-entropy of blended images with blended labels."""

    def __init__(self, contract: Mixup) -> None:
        self._contract = contract

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the blended batch."""
        share = float(batch.random.beta(self._contract.alpha, self._contract.alpha))
        partner = torch.from_numpy(batch.random.permutation(len(batch))).to(batch.pixels.device)
        # what is not blended comes whole from the one with the larger share
        whole = float(share >= 0.5)  # noqa: PLR2004 - half
        pixels = blend(batch.pixels, partner, whole if self._contract.mix == "labels" else share)
        targets = blend(batch.targets, partner, whole if self._contract.mix == "images" else share)
        return Step(network.losses(network.logits(pixels), targets).mean())


def blend(
    values: Float[Tensor, "image ..."], partner: Int[Tensor, " image"], share: float
) -> Float[Tensor, "image ..."]:
    """Blend each row with that of its partner: share * x + (1 - share) * x[partner].

    Args:
        values: One row per image.
        partner: Position of each image's partner.
        share: Of the image itself, in [0,1].

    Source: Zhang et al. 2018, equation 2.
    """
    return share * values + (1 - share) * values[partner]
