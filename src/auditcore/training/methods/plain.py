"""Training on the images as they are."""

from __future__ import annotations

from typing import final

from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.network import Network


@final
class PlainTraining(Method):
    """The mean cross-entropy of the batch."""

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the images as they are."""
        return Step(network.losses(network.logits(batch.pixels), batch.targets).mean())
