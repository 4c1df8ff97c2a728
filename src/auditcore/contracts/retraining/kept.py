"""What measures that retrain keep between their stages, apart from scores and weights."""

from __future__ import annotations

from typing import final

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.retraining.cost import RetrainingCost


@final
class MeasurePrice(Contract):
    """What a measurement was expected to cost before anything was trained; all its stages belong to this measurement.

    Attributes:
        measurement_id: Name of the measurement.
        measurement: Digest of everything that decides the values: plan, models and images.
        estimate: What the whole was expected to cost.
    """

    measurement_id: str
    measurement: Sha256
    estimate: RetrainingCost


@final
class CountedWork(Contract):
    """Passes and seconds of a piece of work.

    Attributes:
        forward_images: Images that passed forward.
        backward_images: Images that passed backward.
        seconds: Seconds of computing.
    """

    forward_images: int = 0
    backward_images: int = 0
    seconds: float = 0.0

    def plus(self, other: CountedWork) -> CountedWork:
        """Both together."""
        return CountedWork(
            forward_images=self.forward_images + other.forward_images,
            backward_images=self.backward_images + other.backward_images,
            seconds=self.seconds + other.seconds,
        )
