"""The probe: answers to fixed images, which show whether the model behind a server is still the same."""

from __future__ import annotations

import math
from typing import final

from auditcore.contracts.contract import Contract

CHANGED = 1e-3
"""From this change of a probability on, the model must be a different one: float32 and batching on a server cause less
than a tenth of it."""


@final
class ProbeAnswers(Contract):
    """Answers of a model behind a server to the probe, the same few images for every shard and worker.

    Attributes:
        probabilities: Probabilities of all classes, image by image.
        unsteadiness: Largest difference between two answers of the same model to the same image.
    """

    probabilities: tuple[float, ...]
    unsteadiness: float

    def moved_from(self, other: ProbeAnswers) -> float:
        """Return the largest change of a probability; infinite if the number of classes differs."""
        if len(self.probabilities) != len(other.probabilities):
            return math.inf
        return max(abs(own - theirs) for own, theirs in zip(self.probabilities, other.probabilities, strict=True))

    def is_of_another_model(self, other: ProbeAnswers) -> bool:
        """Return whether a probability changed by more than rounding and the model's unsteadiness explain."""
        tolerated = max(CHANGED, 10 * max(self.unsteadiness, other.unsteadiness))
        return not self.moved_from(other) < tolerated
