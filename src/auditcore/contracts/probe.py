"""Whether the model behind a server is still the same, told by its answers to images that never change."""

from __future__ import annotations

import math
from typing import final

from auditcore.contracts.contract import Contract

CHANGED = 1e-3
"""Change of a probability from which another model must be answering: float32 and batching on a server move them by
less than a tenth of it."""


@final
class ProbeAnswers(Contract):
    """What a model behind a server answered to the probe, the same few images for every shard and worker.

    Attributes:
        probabilities: Of all classes, image by image.
        unsteadiness: Largest difference between two answers of the same model to the same image.
    """

    probabilities: tuple[float, ...]
    unsteadiness: float

    def moved_from(self, other: ProbeAnswers) -> float:
        """Largest change of a probability; infinite where there are other classes."""
        if len(self.probabilities) != len(other.probabilities):
            return math.inf
        return max(abs(own - theirs) for own, theirs in zip(self.probabilities, other.probabilities, strict=True))

    def is_of_another_model(self, other: ProbeAnswers) -> bool:
        """Whether a probability moved by more than rounding and the unsteadiness of the model explain."""
        tolerated = max(CHANGED, 10 * max(self.unsteadiness, other.unsteadiness))
        return not self.moved_from(other) < tolerated
